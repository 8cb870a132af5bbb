"""Fit a linear classifier on frozen features that is as sure of itself as it is right: a head to start from."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from semivit_jax.hosts import threads
from semivit_jax.training.probes import MAX_ITERATIONS

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of scikit-learn: the larger, the freer
TEMPERATURES = np.geomspace(1 / 16, 16, 65)
MOST_FOLDS = 5
UNCHECKED_PENALTY = 1.0  # C where no class has two images, as `semivit eval --protocol=linear`
MOST_WORK = 100_000_000  # images x classes x width of one fit: minutes for all of them on two cores


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A head for features as they are.

    Attributes:
      kernel: float32 [width, K]; features @ kernel + bias are the logits.
      bias: float32 [K].
      penalty: C that was chosen.
      temperature: that the logits of the fit were divided by.
      folds: of the cross-validation; 0 where there could be none, and C and temperature are the stated ones.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    temperature: float
    folds: int

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float32 [n, width] -> float32 [n, K]."""
        return features @ self.kernel + self.bias


def choose(labels: np.ndarray, *, num_classes: int, width: int, seed: int) -> np.ndarray:
    """Places of the images to fit on: all, or of every class as many as the work leaves room for; none where under two.

    Args:
      labels: int [n], of the labeled images.
      num_classes: K.
      width: of the features.
      seed: of the draw.
    """
    most = MOST_WORK // (width * num_classes)
    if len(labels) <= most:
        return np.arange(len(labels))
    per_class = most // num_classes
    if per_class < 2:
        return np.empty(0, np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[_rank_in_class(labels[order]) < per_class])


def fit(features: np.ndarray, labels: np.ndarray, *, num_classes: int) -> LinearProbe:
    """Logistic regression whose C and temperature are chosen by cross-validation.

    The scale of the logits decides how sure a head is, and the penalty that classifies best is rarely the one whose
    confidences are right. So each C is tried with the temperature T that suits it: of the images left out of a fit,
    softmax(logits / T) must have the smallest log loss (Guo et al. 2017, "On Calibration of Modern Neural Networks",
    section 4.2). The loss counts one image more, of which every class is as likely: without that doubt, a probe that
    is right on a handful of images would be scaled up to be sure of everything. The pair with the smallest loss is
    fitted on all images. Features are standardised by the labeled images; that, and 1 / T, are folded into kernel and
    bias.

    A class with one image is always among those fitted on. Where no class has two, C = 1 and T = 1 stand in. A class
    without an image has a constant output: it is as likely as one image more would have made it.

    Args:
      features: float [n, width].
      labels: int [n], of at least two classes.
      num_classes: K.

    Returns:
      The head. The same arguments give the same numbers on the same machine.
    """
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    inputs = (features - mean) / std
    known, labels = np.unique(labels, return_inverse=True)
    penalty, temperature, folds = _cross_validate(inputs, labels)
    (((weights, bias),)) = _fits(inputs, labels, (penalty,))
    logits = (inputs @ weights + bias) / temperature
    unseen = float(np.mean(np.logaddexp.reduce(logits, axis=1)) - np.log(len(labels)))
    kernel, offsets = np.zeros((len(mean), num_classes)), np.full(num_classes, unseen)
    kernel[:, known] = weights / std[:, None] / temperature
    offsets[known] = bias / temperature - mean @ kernel[:, known]
    return LinearProbe(kernel.astype(np.float32), offsets.astype(np.float32), penalty, temperature, folds)


def _cross_validate(inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float, int]:
    """C, T and the number of folds that they were chosen by.

    Args:
      inputs: float64 [n, width], standardised.
      labels: int [n], numbers of the classes that occur.
    """
    rank, several = _rank_in_class(labels), np.bincount(labels)[labels] > 1
    folds = min(MOST_FOLDS, int(rank.max()) + 1)
    if folds < 2:
        return UNCHECKED_PENALTY, 1.0, 0
    left_out = np.where(several, rank % folds, -1)
    logits = np.zeros((len(PENALTIES), len(labels), labels.max() + 1))
    for fold in range(folds):
        out = left_out == fold
        for number, (weights, bias) in enumerate(_fits(inputs[~out], labels[~out], PENALTIES)):
            logits[number, out] = inputs[out] @ weights + bias
    losses = np.array([[_loss(found[several] / t, labels[several]) for t in TEMPERATURES] for found in logits])
    best, at = np.unravel_index(losses.argmin(), losses.shape)
    return PENALTIES[int(best)], float(TEMPERATURES[int(at)]), folds


def _fits(inputs: np.ndarray, labels: np.ndarray, penalties: tuple[float, ...]) -> Iterator[tuple[np.ndarray, ...]]:
    """(weights [width, K], bias [K]) for each C in turn, each from where the one before ended."""
    from sklearn.linear_model import LogisticRegression  # seconds to load

    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for penalty in penalties:
        with threads.one_for_algebra():
            model.set_params(C=penalty).fit(inputs, labels)
        weights, bias = np.asarray(model.coef_).T, np.asarray(model.intercept_)
        if len(bias) == 1:  # of two classes there is the second one's logit alone, against 0
            weights, bias = np.concatenate([-weights, weights], axis=1) / 2, np.concatenate([-bias, bias]) / 2
        yield weights, bias


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss of images and of one more, of which every class is as likely."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    of_images = -log_probs[np.arange(len(labels)), labels].sum()
    return float((of_images - log_probs.mean()) / (len(labels) + 1))


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many images of the same class come before each."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank
