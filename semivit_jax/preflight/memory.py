"""Count the bytes on one device: the state exactly, what a step adds as an estimate."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax

from semivit_jax.config import Config
from semivit_jax.models.cost import Cost, Stack
from semivit_jax.plan import Plan
from semivit_jax.preflight.flops import Passed, passes
from semivit_jax.stages.state import TrainState, nbytes

PyTree = Any


@dataclasses.dataclass(frozen=True)
class StateBytes:
    """One device's share of the state; `total_params` is the whole model, wherever it lives."""

    params: int  # those that are trained
    frozen: int
    ema_params: int
    optimizer: int
    total_params: int  # bytes of all parameters, unsharded
    total_trained: int  # of those that are trained

    @property
    def total(self) -> int:
        return self.params + self.frozen + self.ema_params + self.optimizer


def state_bytes(state: TrainState) -> StateBytes:
    """Of a described state, leaves `jax.ShapeDtypeStruct` with shardings."""
    return StateBytes(
        params=_local(state.params),
        frozen=_local(state.frozen),
        ema_params=_local(state.ema_params),
        optimizer=_local(state.opt_state),
        total_params=nbytes((state.params, state.frozen)),
        total_trained=nbytes(state.params),
    )


def _local(tree: PyTree) -> int:
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class DeviceStack:
    """A stack of blocks as one device sees it in one micro-step."""

    images: int
    blocks: Stack  # of one image
    backward: int  # blocks through which a backward pass goes
    itemsize: int  # bytes of one activation

    @property
    def working(self) -> int:
        """Bytes of one image in one block while its backward pass runs: arrays, float32 scores and their softmax."""
        return self._bytes(*self.blocks.arrays.working) + self._scores

    @property
    def kept(self) -> int:
        """Bytes one block keeps for the backward pass of one image when no block is computed twice.

        How near the whole estimate is to the compiler's temporaries, `tests/preflight/test_estimate.py` says for every
        row of docs/scaling.md.
        """
        return self._bytes(*self.blocks.arrays.kept) if self.itemsize == 2 else self.working

    def _bytes(self, widths: int, hidden: int) -> int:
        return self.blocks.tokens * (widths * self.blocks.width + hidden * self.blocks.mlp_dim) * self.itemsize

    @property
    def _scores(self) -> int:
        """Logits and probabilities of one image in float32."""
        return 2 * 4 * self.blocks.num_heads * self.blocks.tokens**2

    def saved(self, remat: str) -> int:
        """Bytes kept from forward to backward, all blocks."""
        kept = {
            "none": self.kept,
            "dots": self._bytes(*self.blocks.arrays.dots),
            "full": self._bytes(*self.blocks.arrays.inputs),
        }
        return self.images * self.backward * kept[remat]


def stacks(config: Config, plan: Plan, passed: Passed) -> list[DeviceStack]:
    """Those of one micro-step, in the order in which an image passes them."""
    images = plan.micro_batch // plan.num_devices * passed.per_row
    return device_stacks(passed.cost, images, itemsize=activation_bytes(config))


def device_stacks(cost: Cost, images: int, *, itemsize: int) -> list[DeviceStack]:
    """The stacks of a model for so many images, whose activations have so many bytes each."""
    found, frozen = [], cost.forward_only
    for blocks in cost.stacks:
        below = min(frozen, blocks.depth)
        frozen -= below
        found.append(DeviceStack(images, blocks, blocks.depth - below, itemsize))
    return found


def activation_bytes(config: Config) -> int:
    """Of one activation; 'auto' means bfloat16, as plans are for accelerators."""
    return 4 if config.model.dtype == "float32" else 2


def estimated_temporaries(config: Config, plan: Plan, state: StateBytes) -> int:
    """Estimate of what a step adds to the state, where no compiler can be asked; see `temporaries`."""
    found = passes(config, plan)
    return temporaries(
        [stack for one in found if one.backward for stack in stacks(config, plan, one)],
        state,
        remat=config.model.remat,
        image_size=config.data.image_size,
        views=1 if all(one.backward for one in found) else 3,  # a teacher's views and the student's
        accum=plan.accum,
    )


def temporaries(
    passed: Sequence[DeviceStack], state: StateBytes, *, remat: str, image_size: int, views: int, accum: int
) -> int:
    """Estimate of the bytes that a step adds.

    Activations kept for the backward pass, one block's working set, float32 images (seen and mixed), gradients
    as sharded as the parameters, and the parameters and their gradients rounded for computing, gathered whole. Several
    micro-steps add their sum of gradients, which the compiler holds twice.

    Args:
      passed: stacks of blocks through which something goes backward, of one micro-step.
      state: the device's.
      remat: what is computed again.
      image_size: pixels per side.
      views: of each image.
      accum: micro-steps.
    """
    saved = sum(stack.saved(remat) for stack in passed)
    working = max(stack.images * stack.working for stack in passed)
    pixels = 2 * views * passed[0].images * image_size**2 * 3 * 4
    rounded = (state.total_params + state.total_trained) * passed[0].itemsize // 4
    gradients = state.params * (1 if accum == 1 else 3)
    return saved + working + pixels + gradients + rounded
