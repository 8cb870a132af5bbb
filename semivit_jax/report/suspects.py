"""Find labels that are most likely wrong: confident learning on features, each image judged by a fit without it."""

from typing import NamedTuple

import numpy as np

from semivit_jax.training.probes import MAX_ITERATIONS

FOLDS = 5
LEAST = 3  # labeled images of a class; of fewer nothing is said
PENALTY = 1.0  # C of scikit-learn's logistic regression
MOST_WORK = 200_000_000  # images x classes x width of one fit


class Suspects(NamedTuple):
    """Labels that are probably wrong, the surest first.

    Attributes:
      checked: images that were judged.
      places: int [n], of the suspected ones, in the order that was given.
      better: int [n], the class that suits them.
      own: float [n], probability of the label that they have.
      other: float [n], probability of the better one.
    """

    checked: int
    places: np.ndarray
    better: np.ndarray
    own: np.ndarray
    other: np.ndarray


def find(features: np.ndarray, labels: np.ndarray, *, seed: int) -> Suspects:
    """Confident learning (Northcutt et al. 2021, section 3): an image belongs where it is at least usually likely.

    A class counts for an image if its probability reaches what the images of that label have on average. If the
    likeliest class that counts is another than the label, the label is suspected. The surest are those whose label
    falls furthest behind.

    Args:
      features: float [n, width].
      labels: int [n].
      seed: of the folds.
    """
    counts = np.bincount(labels)
    judged = np.flatnonzero(counts[labels] >= LEAST)
    known = np.unique(labels[judged])
    if len(known) < 2 or len(judged) * len(known) * features.shape[1] > MOST_WORK:
        return Suspects(0, *(np.empty(0, kind) for kind in (int, int, float, float)))
    numbers = np.searchsorted(known, labels[judged])
    probs = held_out_probs(features[judged], numbers, seed=seed)
    found, better = suspected(probs, numbers)
    own, other = probs[found, numbers[found]], probs[found, better]
    order = np.argsort(own - other, kind="stable")
    return Suspects(len(judged), judged[found][order], known[better][order], own[order], other[order])


def suspected(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places of suspected labels, the class that suits them better), of probabilities [n, K] and labels [n]."""
    usual = np.array([probs[labels == k, k].mean() for k in range(probs.shape[1])])
    counting = np.where(probs >= usual, probs, -1.0)
    best = counting.argmax(axis=1)
    found = np.flatnonzero((counting.max(axis=1) >= 0) & (best != labels))
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
        model.fit((features[fitted] - mean) / std, labels[fitted])
        probs[np.ix_(out, model.classes_)] = model.predict_proba((features[out] - mean) / std)
    return probs
