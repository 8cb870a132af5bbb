"""Keep an image where the teacher is sure enough: the threshold of FixMatch (Sohn et al. 2020) and of Semi-ViT."""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig


def fixed(confidence_threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps an image where its confidence is at least the threshold (Sohn et al. 2020, eq. 4)."""
    del keys

    def assign(policy_state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        confidence = probs.max(axis=-1)
        target = jax.nn.one_hot(probs.argmax(axis=-1), known.num_classes, dtype=probs.dtype)
        weight = (confidence >= confidence_threshold).astype(probs.dtype)
        return policy_state, PseudoLabels(target, confidence, weight, strength=confidence)

    return PseudoLabelRule(tuple, assign)


def by_class(probs: jax.Array, thresholds: jax.Array) -> PseudoLabels:
    """Keeps an image where its confidence is at least the threshold of its class.

    Args:
      probs: (b, K), the teacher's.
      thresholds: (K,).

    Returns:
      Hard labels; their strength is the confidence over the threshold, by which mixing asks who is the surer one.
    """
    confidence, label = probs.max(axis=-1), probs.argmax(axis=-1)
    threshold = thresholds[label]
    return PseudoLabels(
        target=jax.nn.one_hot(label, probs.shape[-1], dtype=probs.dtype),
        confidence=confidence,
        weight=(confidence >= threshold).astype(probs.dtype),
        strength=confidence / jnp.maximum(threshold, 1e-3),
        thresholds=thresholds,
    )
