"""Find labels that are most likely wrong: confident learning on features, each image judged by a fit without it."""

from typing import NamedTuple

import numpy as np

from semivit_jax.hosts import threads
from semivit_jax.report import sample
from semivit_jax.report.sample import GRADED, LABELED, Seen
from semivit_jax.training.probes import MAX_ITERATIONS

FOLDS = 5
LEAST = 3  # labeled images of a class; of fewer nothing is said
PENALTY = 0.1  # C of scikit-learn's logistic regression; found better than 1 (docs/report.md)
LEAST_SKILL = 0.6  # of a judge; below, most of its suspicions are false (docs/report.md)
MOST_WORK = 200_000_000  # images x classes x width of one fit


class Suspect(NamedTuple):
    """A label that is probably wrong.

    Attributes:
      place: of the image.
      better: the class that suits it.
      own: probability of the label that it has.
      other: probability of the better one.
    """

    place: int
    better: int
    own: float
    other: float


class Found(NamedTuple):
    """What the judge makes of labels.

    Attributes:
      places: int [m], of the images whose labels were judged.
      agrees: bool [m], whether the likeliest class of each is that of its label: the mean says what the judge knows.
      suspects: labels that are suspected, the surest first.
    """

    places: np.ndarray
    agrees: np.ndarray
    suspects: list[Suspect]


class Judged(NamedTuple):
    """Labels of the images of a role, judged by a fit without each.

    Attributes:
      seen: the images, with the features that they were judged by.
      count: of the labels that could be judged.
      right: share of them that the judge guesses as they are.
      least_right: such a share from which on its suspicions are worth a look.
      is_fitted: whether the features are of weights that have learned these labels.
      suspects: labels that are suspected, by their row in `seen`; the surest first.
    """

    seen: Seen
    count: int
    right: float
    least_right: float
    is_fitted: bool
    suspects: list[Suspect]

    @property
    def is_weak(self) -> bool:
        """Whether the judge knows the classes so little that most of its suspicions would be false."""
        return self.right < self.least_right


def judge(by: dict[str, Seen], role: str, *, seed: int, is_fitted: bool) -> Judged:
    """Judges the labels of a role, by fits to all images whose labels are known.

    Args:
      by: images of the role, and of others with known labels, with features.
      role: whose labels are judged.
      seed: of the folds.
      is_fitted: see `Judged`.

    Raises:
      ValueError: no label of the role can be judged, or there are too many; says why.
    """
    features, labels, rows = sample.joined(by, LABELED, GRADED)
    found = find(features, labels, seed=seed)
    own = np.array([rows[place][0] == role for place in found.places])
    if not own.any():
        raise ValueError(f"none is of a class that has {LEAST} labels among the images that were looked at")
    return Judged(
        seen=by[role],
        count=int(own.sum()),
        right=float(found.agrees[own].mean()),
        least_right=least_right(labels[found.places[own]]),
        is_fitted=is_fitted,
        suspects=[one._replace(place=rows[one.place][1]) for one in found.suspects if rows[one.place][0] == role],
    )


def find(features: np.ndarray, labels: np.ndarray, *, seed: int) -> Found:
    """Confident learning (Northcutt et al. 2021, section 3) tells how many labels are wrong, and probabilities which.

    A class counts for an image if its probability reaches what the images of that label have on average. Where the
    likeliest class that counts is another than the label, one label more is wrong. So many are suspected: those that
    are least likely, and less so than another class.

    Args:
      features: float [n, width].
      labels: int [n], -1 where not known.
      seed: of the folds.

    Raises:
      ValueError: no label can be judged, or there are too many; says why.
    """
    judged = np.flatnonzero(labels >= 0)
    judged = judged[np.bincount(labels[judged])[labels[judged]] >= LEAST] if len(judged) else judged
    known = np.unique(labels[judged])
    if len(known) < 2:
        raise ValueError(f"it takes two classes that have {LEAST} labels each among the images that were looked at")
    if len(judged) * len(known) * features.shape[1] > MOST_WORK:
        raise ValueError(
            f"a fit to {len(judged):,} images of {len(known):,} classes would take too long; a smaller --most judges "
            "fewer of them"
        )
    numbers = np.searchsorted(known, labels[judged])
    probs = held_out_probs(features[judged], numbers, seed=seed)
    found = [
        Suspect(int(judged[at]), int(known[better]), float(probs[at, numbers[at]]), float(probs[at, better]))
        for at, better in zip(*suspected(probs, numbers), strict=True)
    ]
    return Found(judged, probs.argmax(axis=1) == numbers, sorted(found, key=lambda one: one.own))


def least_right(labels: np.ndarray) -> float:
    """Which share of these labels a judge must guess as they are, so that its suspicions are worth a look.

    LEAST_SKILL of the way from what it would guess by always naming the most frequent class to all of them.

    Args:
      labels: int [n].
    """
    chance = np.bincount(labels).max() / len(labels)
    return float(chance + LEAST_SKILL * (1 - chance))


def suspected(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places of suspected labels, the class that suits each better), of probabilities [n, K] and labels [n].

    Of labels flipped on purpose, as many as the confident joint counts, taken by their own probability, hold more than
    those that it points at, and than those of lowest margin (docs/report.md).
    """
    usual = np.array([probs[labels == k, k].mean() for k in range(probs.shape[1])])
    counting = np.where(probs >= usual, probs, -1.0)
    wrong = int(((counting.max(axis=1) >= 0) & (counting.argmax(axis=1) != labels)).sum())
    best = probs.argmax(axis=1)
    own = np.where(best == labels, np.inf, probs[np.arange(len(labels)), labels])
    found = np.argsort(own, kind="stable")[:wrong]
    found = found[np.isfinite(own[found])]
    return found, best[found]


def held_out_probs(features: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Probabilities float [n, K] of a logistic regression that was fitted without the image's own fold.

    Args:
      features: float [n, width].
      labels: int [n], each class 0..K-1 at least twice.
      seed: of the folds, which hold equal shares of the classes.
    """
    from sklearn.linear_model import LogisticRegression  # seconds to load
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(min(FOLDS, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    probs = np.zeros((len(labels), labels.max() + 1))
    for fitted, out in folds.split(features, labels):
        mean, std = features[fitted].mean(axis=0), features[fitted].std(axis=0)
        std = np.where(std > 0, std, 1.0)
        model = LogisticRegression(C=PENALTY, max_iter=MAX_ITERATIONS)
        with threads.one_for_algebra():
            model.fit((features[fitted] - mean) / std, labels[fitted])
        probs[np.ix_(out, model.classes_)] = model.predict_proba((features[out] - mean) / std)
    return probs
