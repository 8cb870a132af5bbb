"""Let the threshold follow the teacher's confidence: FreeMatch (Wang et al. 2023), and its fairness term if wanted."""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.fairness import fairness
from semivit_jax.stages.rules.fixed import by_class
from semivit_jax.stages.rules.running import begun, blend, running_mean


def free(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps c >= tau g_y / max_k g_k, tau and g running means, updated before they are used (Wang et al. 2023, eq. 7).

    Its state: tau (), of the confidences (eq. 5), or of their quantile; g (K,), of the probabilities (eq. 6).
    Published: both begin with 1 / K. tau stays at or below `clip`. With `fairness` also h (K,), the shares of the
    classes among the labels of all images, and a penalty.
    """
    del threshold  # it finds its own
    equal, is_fair = 1 / known.num_classes, keys.fairness > 0

    def init() -> PyTree:
        of_classes = {name: begun(keys, equal, (known.num_classes,)) for name in ("g", *(("h",) if is_fair else ()))}
        return {"tau": begun(keys, equal), **of_classes}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        confidence = probs.max(axis=-1)
        level = jnp.quantile(confidence, keys.quantile) if keys.quantile else confidence.mean()
        tau = jnp.minimum(blend(state["tau"], level, len(probs), keys.window), keys.clip)
        g = running_mean(state["g"], probs, keys.window)
        pseudo = by_class(probs, tau * (g / g.max()))
        fair = {"h": running_mean(state["h"], pseudo.target, keys.window)} if is_fair else {}
        return {"tau": tau, "g": g, **fair}, pseudo

    def penalty(state: PyTree, probs: jax.Array, weight: jax.Array) -> jax.Array:
        least = keys.fairness_images * known.num_classes
        return keys.fairness * fairness(probs, weight > 0, state["g"], state["h"], least=least)

    return PseudoLabelRule(init, assign, penalty=penalty if is_fair else None)
