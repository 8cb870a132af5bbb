"""Grade a classifier: add sums over images, batches and hosts, divide once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.ops import metrics
from semivit_jax.ops.losses import correct, cross_entropy, promote, smoothed_target
from semivit_jax.ops.metrics import Mean, Metrics

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


@dataclasses.dataclass(frozen=True)
class Scores:
    """Grades of one classifier on one set of images.

    Attributes:
      num_images: images that were graded.
      acc1, acc5: shares in 0..1.
      loss: mean cross-entropy, nats.
      ece: expected calibration error (Guo et al. 2017, eq. 3): over the 15 bins, the mean distance between
        accuracy and mean confidence, weighted by the images in the bin.
      class_acc: top-1 share per class, None for a class without images.
      confusion: int64 [label, prediction], images.
    """

    num_images: int
    acc1: float
    acc5: float
    loss: float
    ece: float
    class_acc: tuple[float | None, ...]
    confusion: np.ndarray


def scores(sums: Metrics) -> Scores:
    """Divides the sums of `base_sums` and `detail_sums` over all images."""
    means = metrics.compute({name: sums[name] for name in ("acc1", "acc5", "loss")})
    confusion = np.rint(np.asarray(sums["confusion"].total)).astype(np.int64)
    count, confidence, hits = (np.asarray(sums[f"bin_{name}"].total) for name in ("count", "confidence", "correct"))
    num_images, per_class = int(confusion.sum()), confusion.sum(axis=1)
    return Scores(
        num_images=num_images,
        **means,
        ece=float(np.abs(hits - confidence).sum() / max(count.sum(), 1)),
        class_acc=tuple(
            float(row[i] / n) if n else None for i, (row, n) in enumerate(zip(confusion, per_class, strict=True))
        ),
        confusion=confusion,
    )
