"""Describing, compiling and timing one case."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.cases import Case, config_of, plan_of, random_batch
from semivit_jax.preflight import flops
from semivit_jax.training import sharding
from semivit_jax.training.compiled import Compiled, compile_stage, stage_key

PyTree = Any
Step = Callable[[PyTree], tuple[PyTree, PyTree]]
WARMUP_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """One case's numbers. Times in seconds, memory in bytes, rates per second; JSON-ready by `asdict`.

    Attributes:
      step_seconds: median over `steps`, each with the host waiting for its metrics.
      step_seconds_in_flight: per step, when a third as many are dispatched back to back.
      step_seconds_fed: per step of as many, when each also receives its images from host memory, as in training.
      input_wait_share: of that time, what the loop spent handing images over (training's `perf/input_wait_frac`).
      model_flops: counted analytically, see `semivit_jax.preflight.flops`.
      program_bytes: arguments, outputs and temporaries of the compiled step, donated buffers counted once.
      peak_bytes_in_use: largest the process has seen on the device so far; None where not reported.
    """

    case: Case
    mixing_group: int
    compile_seconds: float
    steps: int
    step_seconds: float
    step_seconds_in_flight: float
    step_seconds_fed: float
    input_wait_share: float
    labeled_per_second: float
    unlabeled_per_second: float
    model_flops: int
    model_flops_per_second: float
    program_bytes: int
    temporary_bytes: int
    peak_bytes_in_use: int | None


def describe(case: Case) -> tuple[Compiled, tuple[PyTree, PyTree, PyTree]]:
    """The case's jitted functions, and its step's inputs as shapes: enough to lower and compile."""
    config, mesh = config_of(case), sharding.make_mesh(1)
    compiled = compile_stage(config, plan_of(config, case, num_devices=mesh.size), mesh)
    return compiled, shapes_of(compiled, case)


def shapes_of(compiled: Compiled, case: Case) -> tuple[PyTree, PyTree, PyTree]:
    """Inputs of the train step as shapes: (state, batch, key)."""
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), random_batch(case, 0))
    return compiled.target, batch, jax.eval_shape(lambda: jax.random.key(0))


def program_bytes(program: Any) -> tuple[int, int]:
    """(all bytes of a compiled program, temporaries alone), per device; donated arguments are counted once."""
    memory = program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return held + memory.temp_size_in_bytes, memory.temp_size_in_bytes


def measure(case: Case, *, steps: int) -> Measured:
    """Compiles and times the case on every device there is.

    Raises:
      jax.errors.JaxRuntimeError: the device is out of memory, among other things.
    """
    compiled, inputs = describe(case)
    started = time.perf_counter()
    program = compiled.train_step.lower(*inputs).compile()
    compile_seconds = time.perf_counter() - started
    total, temporary = program_bytes(program)
    step, state = _steps_of(case, compiled, program)
    one_by_one, in_flight, state = time_state_step(step, state, steps=steps)
    fed, wait = _time_fed_steps(case, program, state, steps=max(2, steps // 3))
    counted = flops.per_update(config_of(case), compiled.plan).total
    return Measured(
        case=case,
        mixing_group=compiled.plan.group_size,
        compile_seconds=compile_seconds,
        steps=steps,
        step_seconds=one_by_one,
        step_seconds_in_flight=in_flight,
        step_seconds_fed=fed,
        input_wait_share=wait,
        labeled_per_second=case.labeled / one_by_one,
        unlabeled_per_second=case.unlabeled / one_by_one,
        model_flops=counted,
        model_flops_per_second=counted / one_by_one,
        program_bytes=total,
        temporary_bytes=temporary,
        peak_bytes_in_use=peak_bytes_in_use(),
    )


def ready_to_step(case: Case) -> tuple[Step, PyTree]:
    """(state -> (state, metrics) on one batch that stays, the state before the first step), compiled."""
    compiled, inputs = describe(case)
    return _steps_of(case, compiled, compiled.train_step.lower(*inputs).compile())


def _steps_of(case: Case, compiled: Compiled, program: Any) -> tuple[Step, PyTree]:
    _check_fits(program_bytes(program)[0])
    mesh = sharding.make_mesh(1)
    key = jax.device_put(stage_key(config_of(case), case.stage), sharding.replicated(mesh))
    batch = sharding.put(random_batch(case, 0), sharding.train_batch(mesh))
    return lambda state: program(state, batch, key), compiled.init(key)


def _time_fed_steps(case: Case, program: Any, state: PyTree, *, steps: int) -> tuple[float, float]:
    """The training loop's order on batches that are ready in host memory: hand over, dispatch, read the last metrics.

    Returns:
      (seconds per step, share of them spent handing over).
    """
    mesh = sharding.make_mesh(1)
    spread, hosts = sharding.train_batch(mesh), [random_batch(case, seed) for seed in (1, 2)]
    key = jax.device_put(stage_key(config_of(case), case.stage), sharding.replicated(mesh))
    waited, pending = 0.0, None
    started = time.perf_counter()
    for i in range(steps):
        handing = time.perf_counter()
        batch = sharding.put(hosts[i % 2], spread)
        waited += time.perf_counter() - handing
        state, found = program(state, batch, key)
        if pending is not None:
            jax.device_get(pending)
        pending = found
    jax.device_get(pending)
    elapsed = time.perf_counter() - started
    return elapsed / steps, waited / elapsed


def _check_fits(needed_bytes: int) -> None:
    """Says before running what the allocator would say after."""
    memory = jax.local_devices()[0].memory_stats()
    if memory is not None and needed_bytes > memory.get("bytes_limit", needed_bytes):
        raise jax.errors.JaxRuntimeError(
            f"RESOURCE_EXHAUSTED: the program needs {needed_bytes} bytes, the device has {memory['bytes_limit']}"
        )


def time_state_step(step: Step, state: PyTree, *, steps: int) -> tuple[float, float, PyTree]:
    """Times state -> (state, metrics); the state may be donated, so each step takes the last one's.

    Returns:
      (median seconds of steps waited for one by one, mean seconds of steps dispatched back to back, last state).
    """
    for _ in range(WARMUP_STEPS):
        state, found = step(state)
        jax.block_until_ready(found)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        state, found = step(state)
        jax.block_until_ready(found)
        seconds.append(time.perf_counter() - started)
    in_flight = max(1, steps // 3)
    started = time.perf_counter()
    for _ in range(in_flight):
        state, found = step(state)
    jax.block_until_ready(found)
    return statistics.median(seconds), (time.perf_counter() - started) / in_flight, state


def median_seconds(function: Callable[[], Any], *, repeats: int) -> float:
    """Median time of a call whose result is waited for."""
    for _ in range(WARMUP_STEPS):
        jax.block_until_ready(function())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def peak_bytes_in_use() -> int | None:
    """The first device's peak so far; None where the backend does not report it (CPU)."""
    memory = jax.local_devices()[0].memory_stats()
    return None if memory is None else memory.get("peak_bytes_in_use")
