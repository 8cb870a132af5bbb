"""Take the classes that the teacher prefers out of its pseudo labels: DebiasPL (Wang et al. 2022) around any rule.

"Debiased Learning from Naturally Imbalanced Pseudo-Labels"; its loss of clusters and its several views are not here.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.around import around
from semivit_jax.stages.rules.running import begun, blend

SMALLEST_SHARE = 1e-6  # of a class in q, so that one that never comes gets no infinite help


def debiased(rule: PseudoLabelRule, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """`rule` sees z - a log q, and the student learns by z + a log q, a = `debias` (Wang et al. 2022, section 4).

    z are logits of unlabeled images; q is the running mean of the teacher's probabilities, those of its raw logits.
    The first step gives classes that come seldom more pseudo labels. The second, an adaptive margin, asks more of the
    student in these classes: its own logits, as they are used afterwards, become the larger there.

    Its state: rule, that of `rule`; q (K,). Labels go by q as it was before the update, the student's loss by q after
    it. Published: q begins with equal shares; otherwise the first update's labels go by what q is after it.
    """

    def init() -> PyTree:
        return {"rule": rule.init(), "q": begun(keys, 1 / known.num_classes, (known.num_classes,))}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        probs = jax.nn.softmax(evidence.logits)
        q = blend(state["q"], probs.mean(axis=0), len(probs), keys.window)
        before = jnp.where(state["q"].any(), state["q"], q)
        inner, pseudo = rule.assign(state["rule"], evidence._replace(logits=evidence.logits - margin(before)))
        return {"rule": inner, "q": q}, pseudo

    def margin(q: jax.Array) -> jax.Array:
        return keys.debias * jnp.log(jnp.maximum(q, SMALLEST_SHARE))

    made = around(rule, init, assign)
    inner_offset = made.offset

    def offset(state: PyTree) -> jax.Array:
        own = margin(state["q"])
        return own if inner_offset is None else own + inner_offset(state)

    return dataclasses.replace(made, offset=offset)
