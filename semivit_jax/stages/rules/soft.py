"""Learn the teacher's probabilities of every image, sharpened: no threshold (Berthelot et al. 2019, MixMatch)."""

import jax

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig


def soft(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """t_k ~ p_k^(1 / T) with T = `sharpening`, w = 1 (Berthelot et al. 2019, eq. 7)."""
    del threshold, known

    def assign(policy_state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        confidence = jax.nn.softmax(evidence.logits).max(axis=-1)
        target = jax.nn.softmax(evidence.logits / keys.sharpening)
        weight = (confidence > 0).astype(confidence.dtype)  # 1, but for an image that the teacher has no number for
        return policy_state, PseudoLabels(target, confidence, weight, strength=confidence)

    return PseudoLabelRule(tuple, assign)
