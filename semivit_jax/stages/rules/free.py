"""Let the threshold follow the teacher's confidence: FreeMatch (Wang et al. 2023), without its fairness term."""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.fixed import by_class
from semivit_jax.stages.rules.running import begun, blend, running_mean


def free(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps c >= tau g_y / max_k g_k, tau and g running means, updated before they are used (Wang et al. 2023, eq. 7).

    Its state: tau (), of the confidences (eq. 5), or of their quantile; g (K,), of the probabilities (eq. 6).
    Published: both begin with 1 / K. tau stays at or below `clip`.
    """
    del threshold  # it finds its own

    def init() -> PyTree:
        return {
            "tau": begun(keys, 1 / known.num_classes),
            "g": begun(keys, 1 / known.num_classes, (known.num_classes,)),
        }

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        confidence = probs.max(axis=-1)
        level = jnp.quantile(confidence, keys.quantile) if keys.quantile else confidence.mean()
        tau = jnp.minimum(blend(state["tau"], level, len(probs), keys.window), keys.clip)
        g = running_mean(state["g"], probs, keys.window)
        return {"tau": tau, "g": g}, by_class(probs, tau * (g / g.max()))

    return PseudoLabelRule(init, assign)
