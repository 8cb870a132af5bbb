"""Stand around a rule whose state is a part of one's own."""

from collections.abc import Callable

from semivit_jax.stages.pseudo_label import Evidence, PseudoLabelRule, PseudoLabels, PyTree


def around(
    rule: PseudoLabelRule,
    init: Callable[[], PyTree],
    assign: Callable[[PyTree, Evidence], tuple[PyTree, PseudoLabels]],
) -> PseudoLabelRule:
    """A rule whose state is a dict with that of `rule` as 'rule', and that asks of the student what `rule` does."""
    offset, labeled_offset, penalty = rule.offset, rule.labeled_offset, rule.penalty
    return PseudoLabelRule(
        init,
        assign,
        offset=None if offset is None else lambda state: offset(state["rule"]),
        labeled_offset=None if labeled_offset is None else lambda state: labeled_offset(state["rule"]),
        penalty=None if penalty is None else lambda state, *given: penalty(state["rule"], *given),
    )
