"""Find labels that are most likely wrong: confident learning on features, each image judged by a fit without it."""

from typing import NamedTuple

import numpy as np

from semivit_jax.hosts import threads
from semivit_jax.training.probes import MAX_ITERATIONS

FOLDS = 5
LEAST = 3  # labeled images of a class; of fewer nothing is said
PENALTY = 0.1  # C of scikit-learn's logistic regression; found better than 1 (docs/report.md)
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
    """How many labels were judged, and those that are suspected, the surest first."""

    checked: int
    suspects: list[Suspect]


def find(features: np.ndarray, labels: np.ndarray, *, seed: int) -> Found:
    """Confident learning (Northcutt et al. 2021, section 3) tells how many labels are wrong, and probabilities which.

    A class counts for an image if its probability reaches what the images of that label have on average. Where the
    likeliest class that counts is another than the label, one label more is wrong. So many are suspected: those that
    are least likely, and less so than another class.

    Args:
      features: float [n, width].
      labels: int [n], -1 where not known.
      seed: of the folds.
    """
    judged = np.flatnonzero(labels >= 0)
    judged = judged[np.bincount(labels[judged])[labels[judged]] >= LEAST] if len(judged) else judged
    known = np.unique(labels[judged])
    if len(known) < 2 or len(judged) * len(known) * features.shape[1] > MOST_WORK:
        return Found(0, [])
    numbers = np.searchsorted(known, labels[judged])
    probs = held_out_probs(features[judged], numbers, seed=seed)
    found = [
        Suspect(int(judged[at]), int(known[better]), float(probs[at, numbers[at]]), float(probs[at, better]))
        for at, better in zip(*suspected(probs, numbers), strict=True)
    ]
    return Found(len(judged), sorted(found, key=lambda one: one.own))


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
