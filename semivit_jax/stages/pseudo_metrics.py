"""Tell what a pseudo-label rule does: how many images it keeps, of which classes, how sure and how right it is."""

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.ops import metrics
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.stages.pseudo_label import PseudoLabels

MOST_CLASSES = 20  # with more of them thresholds are told by their range alone


def rule_metrics(pseudo: PseudoLabels, label_prior: np.ndarray) -> Metrics:
    """What a rule makes of all images of an update, before they mix.

    Args:
      pseudo: leaves [b, ...].
      label_prior: (K,), shares of the classes among the labeled images.

    Returns:
      kept_share: of the images that have a weight at all; mean_weight; effective_share: (sum w)^2 / sum w^2, the number
        of equally weighted images that would tell as much, as a share of all; class_kept_min: mean weight in the class
        where it is lowest, of those that come among the labels; prior_distance: of the labels' shares of the classes
        from the prior, half the sum of absolute differences (0 equal, 1 nothing in common); threshold_min, _median,
        _max and, of few classes, threshold_class_0, ..., where the rule has thresholds that tell something;
        inlier_weight: mean factor that an image has for being of a class, where outliers are looked for.
    """
    weight, target = pseudo.weight, pseudo.target
    of_class, kept = target.sum(axis=0), weight @ target
    least = jnp.where(of_class > 0, kept / jnp.maximum(of_class, 1e-6), 1.0).min()
    square = jnp.maximum((weight**2).sum(), 1e-12)  # 0 where nothing is kept, and so is the sum above it
    found = {
        "kept_share": (weight > 0).astype(weight.dtype).mean(),
        "mean_weight": weight.mean(),
        "effective_share": weight.sum() ** 2 / square / len(weight),
        "class_kept_min": least,
        "prior_distance": 0.5 * jnp.abs(of_class / len(weight) - label_prior).sum(),
    }
    if pseudo.thresholds is not None:
        found |= _thresholds(pseudo.thresholds)
    if pseudo.inlier is not None:
        found["inlier_weight"] = pseudo.inlier.mean()
    return {name: metrics.of(value) for name, value in found.items()}


def _thresholds(thresholds: jax.Array) -> dict[str, jax.Array]:
    found = {
        "threshold_min": thresholds.min(),
        "threshold_median": jnp.median(thresholds),
        "threshold_max": thresholds.max(),
    }
    if len(thresholds) <= MOST_CLASSES:
        found |= {f"threshold_class_{k}": threshold for k, threshold in enumerate(thresholds)}
    return found


def pseudo_label_metrics(pseudo: PseudoLabels, confidence_mask: jax.Array, label: jax.Array) -> Metrics:
    """Share kept, confidence quantiles and, where true labels are known (>= 0), how right the labels are.

    Accuracy always refers to an image's own, unmixed pseudo label; the mask may come from its partner.
    """
    dtype = confidence_mask.dtype
    known = (label >= 0).astype(dtype)
    right = (pseudo.target.argmax(axis=-1) == label).astype(dtype) * known
    low, middle, high = jnp.quantile(pseudo.confidence, jnp.asarray([0.1, 0.5, 0.9]))
    return {
        "mask_rate": metrics.of(confidence_mask.mean()),
        "teacher_acc": Mean(right.sum(), known.sum()),
        "pseudo_label_acc": metrics.over(right, confidence_mask * known),
        "pseudo_label_recall": metrics.over(confidence_mask, right),
        "confidence_q10": metrics.of(low),
        "confidence_q50": metrics.of(middle),
        "confidence_q90": metrics.of(high),
    }
