"""Ask of an unlabeled image what the teacher reaches on labeled ones: AdaMatch (Berthelot et al. 2022).

As published it is 'aligned(relative)' with semi.rule.prior = 'model'.
"""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig
from semivit_jax.stages.rules.fixed import by_class


def relative(threshold: float, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """Keeps c >= tau * mean confidence in this update's labeled images (Berthelot et al. 2022, relative threshold)."""
    del keys

    def assign(policy_state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        reached = jax.nn.softmax(evidence.labeled_logits).max(axis=-1).mean()
        thresholds = jnp.full(known.num_classes, threshold * reached)
        return policy_state, by_class(jax.nn.softmax(evidence.logits), thresholds)

    return PseudoLabelRule(tuple, assign)
