"""Tell what a pseudo-label rule does: how many images it keeps, how sure and how right it is."""

import jax
import jax.numpy as jnp

from semivit_jax.ops import metrics
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.stages.pseudo_label import PseudoLabels


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
