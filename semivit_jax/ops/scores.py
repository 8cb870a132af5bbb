"""Grade a classifier: add sums over images, batches and hosts, divide once."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.ops import metrics
from semivit_jax.ops.losses import correct, cross_entropy, promote, smoothed_target
from semivit_jax.ops.metrics import Mean, Metrics

CLASS_ACC, CLASS_ANSWERS = "class_acc1", "class_answers"
THIRDS = ("head", "middle", "tail")
NUM_BINS = 15  # of the calibration error (Guo et al. 2017, section 4)


def base_sums(logits: jax.Array, label: jax.Array, mask: jax.Array) -> Metrics:
    """Top-1, top-5 and cross-entropy of a batch.

    Args:
      logits: (batch, classes); minus infinity for a class that is ruled out, which is no top-5 answer.
      label: int (batch,).
      mask: (batch,), 1 for the images that count.
    """
    mask = mask.astype(jnp.float32)
    target = smoothed_target(label, logits.shape[-1], 0.0, logits.dtype)
    values, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    among_best = ((best == label[:, None]) & (values > -jnp.inf)).any(axis=-1)
    return {
        "acc1": metrics.over(correct(logits, label), mask),
        "acc5": metrics.over(among_best.astype(jnp.float32), mask),
        "loss": metrics.over(cross_entropy(logits, target), mask),
    }


def class_sums(logits: jax.Array, label: jax.Array, mask: jax.Array) -> Metrics:
    """Of each class top-1, and answers with it by images of it: totals and counts (K,) of a batch.

    Arguments as in `base_sums`.
    """
    mask, zeros = mask.astype(jnp.float32), jnp.zeros(logits.shape[-1])
    hits = mask * correct(logits, label).astype(jnp.float32)
    images = zeros.at[label].add(mask)
    answers = zeros.at[logits.argmax(axis=-1)].add(mask)
    return {CLASS_ACC: Mean(zeros.at[label].add(hits), images), CLASS_ANSWERS: Mean(answers, images)}


def detail_sums(logits: jax.Array, label: jax.Array, mask: jax.Array) -> Metrics:
    """Confusion matrix [label, prediction], and count, confidence and hits per confidence bin, of a batch.

    Bin b of n holds confidences in (b/n, (b+1)/n]; the confidence is the largest probability.
    """
    mask, num_classes = mask.astype(jnp.float32), logits.shape[-1]
    probs = jax.nn.softmax(promote(logits), axis=-1)
    prediction, confidence = probs.argmax(axis=-1), probs.max(axis=-1)
    bins = jnp.clip(jnp.ceil(confidence * NUM_BINS).astype(jnp.int32) - 1, 0, NUM_BINS - 1)

    def per_bin(values: jax.Array) -> Mean:
        return Mean(jnp.zeros(NUM_BINS).at[bins].add(values * mask), 1.0)

    confusion = jnp.zeros((num_classes, num_classes)).at[label, prediction].add(mask)
    return {
        "confusion": Mean(confusion, 1.0),
        "bin_count": per_bin(jnp.ones_like(mask)),
        "bin_confidence": per_bin(confidence),
        "bin_correct": per_bin(prediction == label),
    }


def all_sums(logits: jax.Array, label: jax.Array, mask: jax.Array) -> Metrics:
    """Everything that `scores` divides."""
    return {**base_sums(logits, label, mask), **detail_sums(logits, label, mask)}


class Bin(NamedTuple):
    """Answers of similar confidence: how many, their mean confidence, and the share of them that is right."""

    count: int
    confidence: float
    acc1: float


@dataclasses.dataclass(frozen=True)
class Scores:
    """Grades of one classifier on one set of images.

    Attributes:
      num_images: images that were graded.
      acc1, acc5: shares in 0..1.
      loss: mean cross-entropy, nats.
      ece: expected calibration error (Guo et al. 2017, eq. 3): over the 15 bins, the mean distance between
        accuracy and mean confidence, weighted by the images in the bin.
      balanced_acc1: mean of `class_acc`.
      class_acc: top-1 share per class, None for a class without images.
      confusion: int64 [label, prediction], images.
      bins: those of the calibration error that have an image, the least sure first.
    """

    num_images: int
    acc1: float
    acc5: float
    loss: float
    ece: float
    balanced_acc1: float
    class_acc: tuple[float | None, ...]
    confusion: np.ndarray
    bins: tuple[Bin, ...]


def training_scores(sums: Metrics, labeled: Sequence[int]) -> dict[str, float]:
    """What an evaluation in training tells: the means of `base_sums`, and of `class_sums` balanced accuracy and thirds.

    Args:
      sums: over all images.
      labeled: labeled images of each class.
    """
    by_class = sums[CLASS_ACC]
    pairs = zip(np.asarray(by_class.total), np.asarray(by_class.count), strict=True)
    class_acc = tuple(float(total / count) if count else None for total, count in pairs)
    means = metrics.compute({name: value for name, value in sums.items() if name not in (CLASS_ACC, CLASS_ANSWERS)})
    by_third = {f"acc1_{name}": share for name, share in thirds(class_acc, labeled).items()}
    return {**means, "balanced_acc1": balanced_acc1(class_acc), **by_third}


def balanced_acc1(class_acc: Sequence[float | None]) -> float:
    """Mean of the classes' accuracies, of those that have one: rare classes count as common ones do."""
    known = [share for share in class_acc if share is not None]
    return sum(known) / max(len(known), 1)


def thirds(class_acc: Sequence[float | None], labeled: Sequence[int]) -> dict[str, float]:
    """Balanced accuracy of the classes with the most labeled images, of the middle ones, and of those with the fewest.

    Args:
      class_acc: share of each class, None for one without images.
      labeled: labeled images of each class.

    Returns:
      'head', 'middle', 'tail', of a third of the classes each; of equal counts the earlier class is the larger one.
      Nothing where all classes have as many labels, or there are fewer than three.
    """
    if len(class_acc) < len(THIRDS) or len(set(labeled)) < 2:
        return {}
    by_count = sorted(range(len(class_acc)), key=lambda number: -labeled[number])
    parts = np.array_split(by_count, len(THIRDS))
    return {name: balanced_acc1([class_acc[i] for i in part]) for name, part in zip(THIRDS, parts, strict=True)}


def scores(sums: Metrics) -> Scores:
    """Divides the sums of `base_sums` and `detail_sums` over all images."""
    means = metrics.compute({name: sums[name] for name in ("acc1", "acc5", "loss")})
    confusion = np.rint(np.asarray(sums["confusion"].total)).astype(np.int64)
    count, confidence, hits = (np.asarray(sums[f"bin_{name}"].total) for name in ("count", "confidence", "correct"))
    num_images, per_class = int(confusion.sum()), confusion.sum(axis=1)
    class_acc = tuple(
        float(row[i] / n) if n else None for i, (row, n) in enumerate(zip(confusion, per_class, strict=True))
    )
    return Scores(
        num_images=num_images,
        **means,
        ece=float(np.abs(hits - confidence).sum() / max(count.sum(), 1)),
        balanced_acc1=balanced_acc1(class_acc),
        class_acc=class_acc,
        confusion=confusion,
        bins=tuple(
            Bin(round(n), float(sure / n), float(right / n))
            for n, sure, right in zip(count.tolist(), confidence, hits, strict=True)
            if n
        ),
    )
