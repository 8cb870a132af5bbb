"""Lead pseudo labels to the shares that the classes should have: distribution alignment around any rule.

From ReMixMatch (Berthelot et al. 2020, section 3.1); prior 'model' from AdaMatch (Berthelot et al. 2022), prior
'uniform' with its own target from SoftMatch (Chen et al. 2023, section 3.2).
"""

from typing import Any

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.around import around
from semivit_jax.stages.rules.running import blend, running_mean

SMALLEST_SHARE = 1e-6  # added to both shares, so that a class that never comes divides by no zero


def aligned(rule: PseudoLabelRule, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """`rule` sees p'_k ~ p_k r_k / q_k, which on the whole come in the shares r.

    It adds log(r / q) to the logits, which composes with every rule. Where `own_target` is on, the rule's target is
    that of the teacher's own logits, and alignment decides weight and strength alone.

    Its state: rule, that of `rule`; q (K,), running mean of the teacher's probabilities, updated before it is used;
    with prior 'model' r (K,), that of labeled images. Published: r begins with equal shares, q with the first batch.
    """
    equal = 1 / known.num_classes

    def init() -> PyTree:
        zeros = jnp.zeros(known.num_classes)
        begun = {"r": zeros + (equal if keys.start == "published" else 0)} if keys.prior == "model" else {}
        return {"rule": rule.init(), "q": zeros} | begun

    def wanted(state: PyTree, evidence: Evidence) -> Any:
        if keys.prior == "model":
            mean = jax.nn.softmax(evidence.labeled_logits).mean(axis=0)
            return blend(state["r"], mean, len(evidence.logits), keys.window)  # as many updates as q
        return known.label_prior if keys.prior == "labels" else equal

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        q = running_mean(state["q"], jax.nn.softmax(evidence.logits), keys.window)
        r = wanted(state, evidence)
        logits = evidence.logits + jnp.log((r + SMALLEST_SHARE) / (q + SMALLEST_SHARE))
        inner, pseudo = rule.assign(state["rule"], evidence._replace(logits=logits))
        if keys.own_target:
            pseudo = pseudo._replace(target=rule.assign(state["rule"], evidence)[1].target)
        return {"rule": inner, "q": q} | ({"r": r} if keys.prior == "model" else {}), pseudo

    return around(rule, init, assign)
