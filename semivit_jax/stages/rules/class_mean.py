"""Ask of each class its own mean confidence, changed now and then.

Inspired by Semi-SST (arXiv 2506.00467): class-wise thresholds that are not changed in every update. Only its abstract
could be read, so this is a rule of its own and claims none of its results.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.fixed import by_class


def class_mean(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps c >= tau_y. After every so many updates tau_k = clip(scale * mean of c of class k, lowest, highest).

    The mean is of the confidences since the last change that are at least `cutoff`; a class without any keeps its
    threshold. All begin with `cutoff`. The update that ends a period is still judged by the thresholds of that period.

    Its state: tau, sum, count, all (K,), and step () int32, updates so far.
    """
    del threshold  # it finds its own
    every = keys.every or known.steps_per_epoch

    def init() -> PyTree:
        zeros = jnp.zeros(known.num_classes)
        return {"tau": zeros + keys.cutoff, "sum": zeros, "count": zeros, "step": jnp.zeros((), jnp.int32)}

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        pseudo = by_class(jax.nn.softmax(evidence.logits), state["tau"])
        counts = pseudo.target * (pseudo.confidence >= keys.cutoff)[:, None]
        total = state["sum"] + (counts * pseudo.confidence[:, None]).sum(axis=0)
        count, step = state["count"] + counts.sum(axis=0), state["step"] + 1
        found = jnp.clip(keys.scale * total / jnp.maximum(count, 1), keys.lowest, keys.highest)
        swap = step % every == 0
        tau = jnp.where(swap & (count > 0), found, state["tau"])
        return {
            "tau": tau,
            "sum": jnp.where(swap, 0, total),
            "count": jnp.where(swap, 0, count),
            "step": step,
        }, pseudo

    return PseudoLabelRule(init, assign)
