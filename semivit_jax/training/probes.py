"""Probe frozen features with the labeled images: nearest neighbours and a linear classifier."""

from collections.abc import Callable

import numpy as np

from semivit_jax.hosts import threads

NEIGHBOURS, TEMPERATURE = 20, 0.07  # Caron et al. 2021 (DINO), section 4.1 and appendix
MAX_ITERATIONS = 5000
_CHUNK = 1024  # rows compared with all labeled images at a time


Predict = Callable[[np.ndarray], np.ndarray]
"""What a fit makes of features: float [m, width] -> float64 logits [m, K]."""


def knn(labeled: np.ndarray, labels: np.ndarray, *, num_classes: int) -> Predict:
    """Log of the votes of the nearest labeled images (Wu et al. 2018, section 3.4).

    The 20 labeled images of highest cosine similarity s, or all where there are fewer, vote for their class
    with weight exp(s / 0.07). A class without a vote has minus infinity.

    Args:
      labeled: float [n, width], features of the labeled images.
      labels: int [n].
      num_classes: K.
    """
    labeled, k = _unit_length(labeled), min(NEIGHBOURS, len(labeled))

    def logits(features: np.ndarray) -> np.ndarray:
        features, votes = _unit_length(features), np.zeros((len(features), num_classes))
        for start in range(0, len(features), _CHUNK):
            similarity = features[start : start + _CHUNK] @ labeled.T
            nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
            # Similarity 1 is the most there is; without it, exp stays in range.
            weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / TEMPERATURE)
            rows = np.arange(start, start + len(nearest))[:, None]
            np.add.at(votes, (rows, labels[nearest]), weights)
        with np.errstate(divide="ignore"):
            return np.log(votes)

    return logits


def linear(labeled: np.ndarray, labels: np.ndarray, *, num_classes: int) -> Predict:
    """Log-probabilities of a logistic regression on the labeled images, all features standardised by theirs.

    The penalty is scikit-learn's: squared norm of the weights over 2, with C = 1 for the summed loss. A class without a
    labeled image has minus infinity.

    Args: as `knn`.

    Raises:
      ValueError: the labeled images have fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression  # seconds that the other protocols do without

    mean, std = labeled.mean(axis=0), labeled.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    if len(np.unique(labels)) < 2:
        raise ValueError("a linear probe needs labeled images of at least two classes")
    with threads.one_for_algebra():
        model = LogisticRegression(C=1.0, max_iter=MAX_ITERATIONS).fit((labeled - mean) / std, labels)

    def logits(features: np.ndarray) -> np.ndarray:
        found = np.full((len(features), num_classes), -np.inf)
        found[:, model.classes_] = model.predict_log_proba((features - mean) / std)
        return found

    return logits


def _unit_length(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
