"""Estimate a step by a roofline: arithmetic, memory and links at data-sheet rates.

Three times are worked out: arithmetic, memory, links. The longest of them is the step when they overlap perfectly,
which no real step does; their sum is the step when nothing overlaps.
"""

import dataclasses

from semivit_jax.config import Config
from semivit_jax.plan import Plan
from semivit_jax.preflight import flops
from semivit_jax.preflight.chips import Chip
from semivit_jax.preflight.memory import StateBytes, activation_bytes, stacks

SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Roofline of one update.

    Attributes:
      compute_seconds: model FLOPs and recomputed ones at the chip's peak.
      memory_seconds: bytes read and written at the chip's bandwidth.
      link_seconds: bytes sent to other devices at the chip's bandwidth.
      step_seconds: the longest of the three.
      step_seconds_serial: their sum.
      images_per_second: all images of an update, an unlabeled one counting once, by step_seconds.
      hours: the stage's steps, by step_seconds; neither evaluation nor input is in it.
      bound_by: which of the three is the longest.
    """

    compute_seconds: float
    memory_seconds: float
    link_seconds: float
    step_seconds: float
    step_seconds_serial: float
    images_per_second: float
    hours: float
    bound_by: str


def roofline(config: Config, plan: Plan, chip: Chip, state: StateBytes, *, sent_bytes: float) -> Estimate:
    """Estimates one update.

    Args:
      config: the run, as it would run.
      plan: of the stage.
      chip: of every device.
      state: one device's share.
      sent_bytes: what one device sends to others per update.
    """
    times = {
        "arithmetic": executed_flops(config, plan) / plan.num_devices / chip.flops,
        "memory": moved_bytes(config, plan, state) / chip.hbm_bandwidth,
        "links": sent_bytes / chip.link_bandwidth,
    }
    bound_by = max(times, key=lambda name: times[name])
    images = plan.batch_size * (1 + plan.unlabeled_ratio)
    return Estimate(
        compute_seconds=times["arithmetic"],
        memory_seconds=times["memory"],
        link_seconds=times["links"],
        step_seconds=times[bound_by],
        step_seconds_serial=sum(times.values()),
        images_per_second=images / times[bound_by],
        hours=times[bound_by] * plan.total_steps / SECONDS_PER_HOUR,
        bound_by=bound_by,
    )


def executed_flops(config: Config, plan: Plan) -> int:
    """Model FLOPs of an update, and the student's forward pass once more under full rematerialisation."""
    counted = flops.per_update(config, plan)
    again = counted.backward // 2 if config.model.remat == "full" else 0
    return counted.total + again


def moved_bytes(config: Config, plan: Plan, state: StateBytes) -> int:
    """Estimate of the bytes one device reads and writes in an update.

    State and gradients once each way, what is frozen is only read; per micro-step the gathered parameters for every
    pass over them, and what blocks touch, written and read once per pass.
    """
    there_and_back = 4 if config.model.remat == "full" else 3  # forward, two products backward, forward again
    times, activations = 0, 0
    for one in flops.passes(config, plan):
        again = there_and_back if one.backward else 1
        for stack in stacks(config, plan, one):
            passes = again * stack.backward + stack.blocks.depth - stack.backward
            activations += 2 * passes * stack.images * stack.kept
        times += again
    weights = times * state.total_params * activation_bytes(config) // 4
    return 2 * (state.total + state.params) - state.frozen + plan.accum * (weights + activations)


def expected_sent_bytes(config: Config, plan: Plan, state: StateBytes) -> float:
    """Bytes one device sends in an update if only the parameter sharding makes collectives; rings.

    Gradients are summed over all devices in the activations' type, per micro-step; sharded parameters are gathered
    for every pass over them. Nothing of it depends on the batch, and only (n - 1) / n on the devices.
    """
    fsdp, data = config.mesh.fsdp, plan.num_devices // config.mesh.fsdp
    cut = _cut_bytes(config, plan, state, fsdp)
    summed = 2 * _gradient_bytes(config, state) / fsdp * (data - 1) / data
    return plan.accum * (cut + summed)


def expected_leaving_bytes(config: Config, plan: Plan, state: StateBytes, *, devices_per_slice: int) -> float:
    """Bytes of those that leave a slice in an update: the sum of gradients, as a ring of slices makes it.

    Where a copy of the parameters lies on several slices, its gathers leave them as well. The TPU compiler sends more:
    of arrays too small to be cut, every device of a slice sends the whole.
    """
    slices = plan.num_devices // devices_per_slice
    of_a_copy = max(1, config.mesh.fsdp // devices_per_slice)
    cut = _cut_bytes(config, plan, state, of_a_copy)
    summed = 2 * _gradient_bytes(config, state) / of_a_copy * (1 - of_a_copy / slices)
    return plan.accum * (cut + summed)


def _cut_bytes(config: Config, plan: Plan, state: StateBytes, parts: int) -> float:
    """What cut parameters cost in a micro-step: gathered for every pass over them, their gradients cut once."""
    forward_only = sum(not one.backward for one in flops.passes(config, plan))
    passes = 2 + (config.model.remat == "full") + forward_only
    rounded = state.total_params * activation_bytes(config) / 4
    return (passes * rounded + _gradient_bytes(config, state)) * (parts - 1) / parts


def _gradient_bytes(config: Config, state: StateBytes) -> float:
    """Of the gradients of what is trained, as they travel."""
    return state.total_trained * activation_bytes(config) / 4
