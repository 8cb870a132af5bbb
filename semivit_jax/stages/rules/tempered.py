"""Give a rule the teacher's logits at another temperature, for teachers that are too sure or not sure enough."""

import dataclasses

from semivit_jax.stages.pseudo_label import Evidence, Known, PseudoLabelRule, PseudoLabels, PyTree, RuleConfig


def tempered(rule: PseudoLabelRule, keys: RuleConfig, known: Known) -> PseudoLabelRule:
    """`rule` sees logits / temperature, of labeled images too (Guo et al. 2017, eq. 9); its state is that of `rule`."""
    del known

    def assign(state: PyTree, evidence: Evidence) -> tuple[PyTree, PseudoLabels]:
        labeled = None if evidence.labeled_logits is None else evidence.labeled_logits / keys.temperature
        return rule.assign(state, evidence._replace(logits=evidence.logits / keys.temperature, labeled_logits=labeled))

    return dataclasses.replace(rule, assign=assign)
