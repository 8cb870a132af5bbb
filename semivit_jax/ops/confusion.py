"""Count what a classifier takes for what: the pairs of label and prediction that occur, never a matrix of all."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Images by (label, prediction). Of ten thousand classes a matrix has 800 MB; the pairs are at most the images.

    Attributes:
      labels, predictions: int64 [n], the pairs that occur, in the order of label, then prediction.
      counts: int64 [n], images of each, at least 1.
      num_classes: K; labels and predictions are below it.
    """

    labels: np.ndarray
    predictions: np.ndarray
    counts: np.ndarray
    num_classes: int

    @property
    def num_images(self) -> int:
        """All that were counted."""
        return int(self.counts.sum())

    @property
    def per_class(self) -> np.ndarray:
        """int64 [K], images of each label."""
        return self._summed(self.labels, self.counts)

    @property
    def right(self) -> np.ndarray:
        """int64 [K], images of each label that are taken for it."""
        own = self.labels == self.predictions
        return self._summed(self.labels[own], self.counts[own])

    @property
    def mistakes(self) -> "Confusion":
        """The pairs of different classes alone."""
        wrong = self.labels != self.predictions
        return Confusion(self.labels[wrong], self.predictions[wrong], self.counts[wrong], self.num_classes)

    @property
    def involved(self) -> np.ndarray:
        """int64 [K], images that have a class as label, and such that are taken for it."""
        return self.per_class + self._summed(self.predictions, self.counts)

    def largest(self, most: int) -> list[tuple[int, int, int]]:
        """(label, prediction, images) of the most frequent pairs; of equal ones in their order."""
        order = np.argsort(-self.counts, kind="stable")[:most]
        return [(int(self.labels[at]), int(self.predictions[at]), int(self.counts[at])) for at in order]

    def of_label(self, label: int) -> "Confusion":
        """The pairs of one label alone."""
        first, last = np.searchsorted(self.labels, (label, label + 1))
        rows = slice(first, last)
        return Confusion(self.labels[rows], self.predictions[rows], self.counts[rows], self.num_classes)

    def matrix(self, classes: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """int64 [k, k] of [label, prediction], of some classes, or of all of them; what is outside is left out."""
        chosen = np.arange(self.num_classes) if classes is None else np.asarray(classes)
        place = np.full(self.num_classes, -1)
        place[chosen] = np.arange(len(chosen))
        rows, columns = place[self.labels], place[self.predictions]
        inside = (rows >= 0) & (columns >= 0)
        found = np.zeros((len(chosen), len(chosen)), np.int64)
        found[rows[inside], columns[inside]] = self.counts[inside]
        return found

    def _summed(self, classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        found = np.zeros(self.num_classes, np.int64)
        np.add.at(found, classes, counts)
        return found


def count(labels: np.ndarray, predictions: np.ndarray, *, num_classes: int) -> Confusion:
    """The confusion of answers.

    Args:
      labels, predictions: int [n], 0..K-1, of one image each.
      num_classes: K.
    """
    pairs, counts = np.unique(labels.astype(np.int64) * num_classes + predictions, return_counts=True)
    return Confusion(pairs // num_classes, pairs % num_classes, counts.astype(np.int64), num_classes)
