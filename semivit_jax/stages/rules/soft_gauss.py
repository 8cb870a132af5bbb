"""Weigh every image by how sure the teacher is, without a threshold: SoftMatch (Chen et al. 2023).

As published it is 'aligned(soft_gauss)' with semi.rule.prior = 'uniform' and semi.rule.own_target on.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.running import begun, blend

LEAST_VARIANCE = 1e-6  # a smaller one would make a hard mask of the weights, and none at all a division by zero


def soft_gauss(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """w = exp(-min(c - mu, 0)^2 / (2 v / sigmas^2)): 1 above the mean confidence (Chen et al. 2023, section 3.1).

    Its state: mu () and v (), running mean and variance of the confidences, updated before they are used. Published:
    they begin with 1 / K and 1.
    """
    del threshold  # it has none

    def init() -> PyTree:
        return {"mu": begun(keys, 1 / known.num_classes), "v": begun(keys, 1.0)}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        confidence, images = probs.max(axis=-1), len(probs)
        mu = blend(state["mu"], confidence.mean(), images, keys.window)
        v = state["v"] if images == 1 else blend(state["v"], confidence.var(ddof=1), images, keys.window)
        below = jnp.minimum(confidence - mu, 0)
        weight = jnp.exp(-(below**2) * keys.sigmas**2 / (2 * jnp.maximum(v, LEAST_VARIANCE))).astype(probs.dtype)
        target = jax.nn.one_hot(probs.argmax(axis=-1), known.num_classes, dtype=probs.dtype)
        thresholds = jnp.full(known.num_classes, mu)  # from here on an image counts whole
        return {"mu": mu, "v": v}, PseudoLabels(target, confidence, weight, confidence, thresholds)

    return PseudoLabelRule(init, assign)
