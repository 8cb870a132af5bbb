"""Learn what other classifiers have said of every image beforehand, from a file: distillation, ensembles.

V-PET (NeurIPS 2025) learns from the votes of several runs in this way.
"""

import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig


def bank(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """t = the bank's probabilities, what is left over spread evenly over the classes it does not name; w = max t.

    An image that the bank has nothing on has no weight.
    """
    del threshold, keys

    def assign(policy_state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        classes, probs = evidence.bank
        rows, named = jnp.arange(len(classes))[:, None], jnp.where(classes >= 0, classes, known.num_classes)
        # Places of no class lie beyond the last one, and what is added there is dropped.
        told = jnp.zeros((len(classes), known.num_classes), probs.dtype).at[rows, named].add(probs, mode="drop")
        is_named = jnp.zeros(told.shape, probs.dtype).at[rows, named].set(1.0, mode="drop")
        rest = jnp.maximum(1.0 - told.sum(axis=-1, keepdims=True), 0.0) * (1.0 - is_named)
        target = told + rest / jnp.maximum((1.0 - is_named).sum(axis=-1, keepdims=True), 1.0)
        target = target / target.sum(axis=-1, keepdims=True)
        confidence = target.max(axis=-1)
        weight = jnp.where(probs.sum(axis=-1) > 0, confidence, 0.0)
        return policy_state, PseudoLabels(target, confidence, weight, strength=confidence)

    return PseudoLabelRule(tuple, assign)
