"""Pseudo-label rules: teacher probabilities -> pseudo label, confidence and weight of each image.

A rule is a value: its state (a pytree, () where it has none) and one pure function
    (policy_state, probs (batch, classes)) -> (policy_state, PseudoLabels).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from semivit_jax.config import SemiConfig


class PseudoLabels(NamedTuple):
    """Attributes, all (batch,):
    pseudo_label: int, the most probable class.
    confidence: its probability.
    weight: share with which the image counts in the loss, in [0, 1].
    """

    pseudo_label: jax.Array
    confidence: jax.Array
    weight: jax.Array


class Rule(NamedTuple):
    """initial_state() -> policy_state, and the rule itself."""

    initial_state: Callable[[], Any]
    apply: Callable[[Any, jax.Array], tuple[Any, PseudoLabels]]


def fixed_threshold(section: SemiConfig) -> Rule:
    """Keeps an image where its confidence is at least the threshold (Sohn et al. 2020, eq. 4)."""

    def apply(policy_state: Any, probs: jax.Array) -> tuple[Any, PseudoLabels]:
        confidence = probs.max(axis=-1)
        weight = (confidence >= section.confidence_threshold).astype(probs.dtype)
        return policy_state, PseudoLabels(probs.argmax(axis=-1), confidence, weight)

    return Rule(tuple, apply)


RULES: dict[str, Callable[[SemiConfig], Rule]] = {"fixed": fixed_threshold}
"""Each takes the keys it needs from the section: a rule with a parameter of its own is a row here and a key there."""


def rule_of(section: SemiConfig) -> Rule:
    """The rule that config.semi names."""
    return RULES[section.pseudo_label_rule](section)
