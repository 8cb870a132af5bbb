"""Pseudo mixups: how the unlabeled images of a mixing group are mixed with each other (Cai et al. 2022, section 3.3).

A pseudo mixup is a value, a row of `PSEUDO_MIXUPS`: the draws of one group, and one pure function of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from semivit_jax.ops import mixup
from semivit_jax.ops.mixup import Chances, GroupDraw, Mixing, ProbDraw


class PseudoMixup(NamedTuple):
    """Attributes:
    sample: (key, size, image_size, chances) -> draw of a group of `size` images.
    mix: (draw, confidence (size,), weight (size,), height, width) -> (Mixing, weight (size,) of the mixed images).
    uses_alphas: `sample` draws with mixup_alpha or cutmix_alpha, so one of them must be above 0.
    by_rejection: the draw loops until it is accepted, so every device makes all of them (`gather.on_every_device`).
    """

    sample: Callable[[jax.Array, int, int, Chances], Any]
    mix: Callable[[Any, jax.Array, jax.Array, int, int], tuple[Mixing, jax.Array]]
    uses_alphas: bool
    by_rejection: bool


def _sample_group(key: jax.Array, size: int, image_size: int, chances: Chances) -> GroupDraw:
    del size  # one lambda, one method and one box for all
    return mixup.sample_group(key, image_size=image_size, **chances._asdict())


def _sample_prob(key: jax.Array, size: int, image_size: int, chances: Chances) -> ProbDraw:
    return mixup.sample_prob(key, size=size, image_size=image_size, cutmix_switch_prob=chances.cutmix_switch_prob)


def _mix_all(draw: GroupDraw, confidence: jax.Array, weight: jax.Array, height: int, width: int):
    """Every image with the one opposite in the group; masks stay with their images."""
    del confidence
    return mixup.group_mixing(draw, mixup.reversed_partner(weight.shape[0]), height, width), weight


def _mix_confident(draw: GroupDraw, confidence: jax.Array, weight: jax.Array, height: int, width: int):
    """As `_mix_all`, among the images that are kept."""
    del confidence
    return mixup.group_mixing(draw, mixup.confident_partner(weight > 0), height, width), weight


def _mix_prob(draw: ProbDraw, confidence: jax.Array, weight: jax.Array, height: int, width: int):
    """The more confident image dominates, and its mask counts for the mixed one (eq. 6)."""
    mixing = mixup.prob_mixing(draw, confidence, height, width)
    stronger = confidence[mixing.partner] > confidence
    return mixing, jnp.where(stronger, weight[mixing.partner], weight)


PSEUDO_MIXUPS: dict[str, PseudoMixup | None] = {
    "none": None,
    "mixup": PseudoMixup(_sample_group, _mix_all, uses_alphas=True, by_rejection=True),
    "mixup_confident": PseudoMixup(_sample_group, _mix_confident, uses_alphas=True, by_rejection=True),
    "prob": PseudoMixup(_sample_prob, _mix_prob, uses_alphas=False, by_rejection=False),
}
