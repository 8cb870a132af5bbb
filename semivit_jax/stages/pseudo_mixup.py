"""Mix the unlabeled images of a group (Cai et al. 2022, section 3.3): the table PSEUDO_MIXUPS.

A pseudo mixup is a value, a row of `PSEUDO_MIXUPS`: the draws of one group, and one pure function of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from semivit_jax.models.gather import on_every_device
from semivit_jax.ops import mixup, rng
from semivit_jax.ops.mixup import Chances, GroupDraw, Mixing, ProbDraw, join, mix_groups, split
from semivit_jax.plan import Plan
from semivit_jax.stages.pseudo_label import PseudoLabels


class PseudoMixup(NamedTuple):
    """Attributes:
    sample: (key, size, image_size, chances) -> draw of a group of `size` images.
    mix: (draw, strength (size,), weight (size,), height, width) -> (Mixing, weight (size,) of the mixed images).
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


def _mix_all(draw: GroupDraw, strength: jax.Array, weight: jax.Array, height: int, width: int):
    """Every image with the one opposite in the group; masks stay with their images."""
    del strength
    return mixup.group_mixing(draw, mixup.reversed_partner(weight.shape[0]), height, width), weight


def _mix_confident(draw: GroupDraw, strength: jax.Array, weight: jax.Array, height: int, width: int):
    """As `_mix_all`, among the images that are kept."""
    del strength
    return mixup.group_mixing(draw, mixup.confident_partner(weight > 0), height, width), weight


def _mix_prob(draw: ProbDraw, strength: jax.Array, weight: jax.Array, height: int, width: int):
    """The stronger image dominates, and the larger weight, by eq. 6 its own, counts for the mixed one."""
    mixing = mixup.prob_mixing(draw, strength, height, width)
    return mixing, jnp.maximum(weight, weight[mixing.partner])


PSEUDO_MIXUPS: dict[str, PseudoMixup | None] = {
    "none": None,
    "mixup": PseudoMixup(_sample_group, _mix_all, uses_alphas=True, by_rejection=True),
    "mixup_confident": PseudoMixup(_sample_group, _mix_confident, uses_alphas=True, by_rejection=True),
    "prob": PseudoMixup(_sample_prob, _mix_prob, uses_alphas=False, by_rejection=False),
}


class PseudoBatch(NamedTuple):
    """Strong images (rows, h, w, c), targets (rows, classes) and confidence_mask (rows,) after pseudo mixup."""

    images: jax.Array
    targets: jax.Array
    confidence_mask: jax.Array


def mix_pseudo(
    strong: jax.Array, pseudo: PseudoLabels, draw: Any, *, kind: str, label_smoothing: float, group_size: int
) -> PseudoBatch:
    """Images, targets and mask the student learns from; `draw` is of groups of `group_size` unlabeled images.

    Without pseudo mixup the targets are the rule's own; with it, they are smoothed, then mixed.
    """
    mixup_of = PSEUDO_MIXUPS[kind]
    if mixup_of is None:
        return PseudoBatch(strong, pseudo.target, pseudo.weight)
    targets = optax.smooth_labels(pseudo.target, label_smoothing)
    height, width = strong.shape[1:3]
    strength, weight = split(pseudo.strength, group_size), split(pseudo.weight, group_size)
    mixing, weight = jax.vmap(lambda d, s, w: mixup_of.mix(d, s, w, height, width))(draw, strength, weight)
    images, targets = mix_groups(strong, targets, mixing, group_size)
    return PseudoBatch(images, targets, join(weight))


def sample_pseudo_mix(
    key: jax.Array, position: jax.Array, plan: Plan, *, kind: str, image_size: int, chances: Chances
) -> Any:
    """One draw per mixing group, leaves [accum, groups, ...]; None without pseudo mixup."""
    mixup_of = PSEUDO_MIXUPS[kind]
    if mixup_of is None:
        return None
    draws = rng.grouped(
        lambda k: mixup_of.sample(k, plan.group_size * plan.unlabeled_ratio, image_size, chances),
        rng.stream(key, "pseudo_mix"),
        position=position,
        accum=plan.accum,
        groups=plan.groups,
    )
    return on_every_device(draws) if mixup_of.by_rejection else draws
