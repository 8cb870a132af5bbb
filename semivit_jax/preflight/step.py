"""Describe and compile the real sharded train step for devices that need not exist."""

import dataclasses
import re
import time
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from semivit_jax.config import Config, ConfigError
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.state import TrainState, told
from semivit_jax.training import sharding
from semivit_jax.training.compiled import Compiled, compile_stage
from semivit_jax.training.describe import describe_batch, describe_key

PyTree = Any


class OutOfMemory(Exception):
    """The compiler found no way to fit the step into a device's memory; carries what it needed."""

    def __init__(self, message: str, *, needed_bytes: int, seconds: float):
        super().__init__(message)
        self.needed_bytes, self.seconds = needed_bytes, seconds


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the compiler says about one device's share of a train step.

    Attributes:
      temporary_bytes: activations, gradients and buffers of collectives, at their highest point.
      peak_bytes: arguments, temporaries and outputs that do not reuse the arguments' memory.
      bytes_accessed: read and written by the program, bodies of loops counted once.
      hlo_text: the optimised program.
      seconds: tracing, lowering and compiling.
    """

    temporary_bytes: int
    peak_bytes: int
    bytes_accessed: float
    hlo_text: str
    seconds: float


def describe_state(config: Config, plan: Plan) -> TrainState:
    """The stage's state with shapes, dtypes and shardings alone; on any machine, for any number of devices."""
    stage = STAGES[plan.stage].make(config, plan, "cpu")  # no parameter depends on the platform
    described = jax.eval_shape(stage.init, jax.random.key(0))
    fsdp = config.mesh.fsdp
    if plan.num_devices % fsdp:
        raise ConfigError(f"config.mesh.fsdp is {fsdp}; it must divide the number of devices, {plan.num_devices}")
    mesh = AbstractMesh((plan.num_devices // fsdp, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2)
    places = sharding.state_shardings(mesh, described)  # pyright: ignore[reportArgumentType]
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), described, places)


def describe_tuning(config: Config, plan: Plan) -> str:
    """How much a stage trains, and what that saves; '' where it trains all."""
    stage = STAGES[plan.stage].make(config, plan, "cpu")
    return told(jax.eval_shape(stage.init, jax.random.key(0)), stage.parting)


def compile_step(config: Config, plan: Plan, devices: list[Any]) -> CompiledStep:
    """Compiles the train step for the devices of a topology.

    Raises:
      OutOfMemory: the step does not fit, as the compiler sees it.
    """
    started = time.monotonic()
    mesh = sharding.make_mesh(config.mesh.fsdp, devices)
    compiled: Compiled = compile_stage(config, plan, mesh)
    lowered = compiled.train_step.lower(compiled.target, describe_batch(config, plan, mesh), describe_key(mesh))
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.monotonic() - started
        raise OutOfMemory(str(error), needed_bytes=_needed_bytes(str(error)), seconds=seconds) from error
    memory = executable.memory_analysis()
    return CompiledStep(
        temporary_bytes=memory.temp_size_in_bytes,
        peak_bytes=memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        bytes_accessed=executable.cost_analysis()["bytes accessed"],
        hlo_text=executable.as_text(),
        seconds=time.monotonic() - started,
    )


def _needed_bytes(message: str) -> int:
    """'... Used 21.50G of 15.75G hbm ...' -> bytes; 0 where the message does not say."""
    found = re.search(r"[Uu]sed ([\d.]+)([KMG]) of [\d.]+[KMG] hbm", message)
    return round(float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]]) if found else 0
