"""Step time, bytes per device and the cost of saving on 1, 2, 4 and 8 simulated devices, replicated and fully sharded.

python -m benchmarks.scaling --model=vit_s16 --batch=16 --out=benchmarks/results/scaling.jsonl

Simulated devices share the cores of this machine, so step times say what sharding costs, not what devices gain; the
bytes are those that real devices would hold. Prints one JSON line per mesh, appended to `--out` where given, then a
table. `save_blocked_seconds` is how long one checkpoint kept the loop altogether, from the call that starts it to the
look that finds it sealed, while steps went on.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PyTree = Any
DEVICES = (1, 2, 4, 8)
SAVES = 3
# Devices are simulated from the start of a process, so this comes before jax is imported.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES[-1]}"

import jax  # noqa: E402

from benchmarks.cases import Case, config_of, plan_of, random_batch  # noqa: E402
from benchmarks.measure import program_bytes, shapes_of  # noqa: E402
from semivit_jax import files  # noqa: E402
from semivit_jax.checkpoints.saving import Saver  # noqa: E402
from semivit_jax.training import sharding  # noqa: E402
from semivit_jax.training.compiled import compile_stage, stage_key  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Scaled:
    """One mesh. Times in seconds; memory in bytes per device, of a checkpoint in bytes altogether."""

    devices: int
    fsdp: int
    compile_seconds: float
    step_seconds: float
    state_bytes: int
    temporary_bytes: int
    checkpoint_bytes: int
    save_blocked_seconds: float
    save_blocked_steps: float


def measure(case: Case, *, devices: int, fsdp: int, steps: int) -> Scaled:
    """Compiles and runs the case on the first `devices` devices, then saves its state once."""
    config, mesh = config_of(case), sharding.make_mesh(fsdp, jax.devices()[:devices])
    compiled = compile_stage(config, plan_of(config, case, num_devices=devices), mesh)
    started = time.perf_counter()
    program = compiled.train_step.lower(*shapes_of(compiled, case)).compile()
    compile_seconds = time.perf_counter() - started
    key = jax.jit(lambda: stage_key(config, case.stage), out_shardings=sharding.replicated(mesh))()
    state = compiled.init(key)
    batch = sharding.put(random_batch(case, 0), sharding.train_batch(mesh))
    state_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    state, _ = jax.block_until_ready(program(state, batch, key))
    started = time.perf_counter()
    for _ in range(steps):
        state, _ = jax.block_until_ready(program(state, batch, key))
    step_seconds = (time.perf_counter() - started) / steps
    blocked = blocked_by_saving(state, lambda state: jax.block_until_ready(program(state, batch, key))[0])
    return Scaled(
        devices=devices,
        fsdp=fsdp,
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        state_bytes=state_bytes,
        temporary_bytes=program_bytes(program)[1],
        checkpoint_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        save_blocked_seconds=blocked,
        save_blocked_steps=blocked / step_seconds,
    )


def blocked_by_saving(state: PyTree, step: Callable[[PyTree], PyTree]) -> float:
    """Median over a few saves of how long each keeps the loop; the first sets threads up and does not count."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Saver(files.path(folder) / "checkpoints", keep=1)
        for number in range(1 + SAVES):
            started = time.perf_counter()
            checkpoints.save(number, state, {})
            kept = time.perf_counter() - started
            while checkpoints.pending:
                state = step(state)
                started = time.perf_counter()
                checkpoints.poll()
                kept += time.perf_counter() - started
            seconds.append(kept)
        checkpoints.close()
    return statistics.median(seconds[1:])


def machine() -> dict[str, object]:
    """When and where: the load is the mean number of runnable threads over the last minute, this program's included."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "orbax-checkpoint")}
    date = datetime.date.today().isoformat()
    return {"date": date, "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "versions": versions}


def table(rows: list[Scaled]) -> str:
    """For people: milliseconds and MiB."""
    lines = ["devices  fsdp  step ms  state MiB/device  temporaries MiB/device  save blocks ms  in steps  compile s"]
    lines += [
        f"{r.devices:7d} {r.fsdp:5d} {1e3 * r.step_seconds:8.1f} {r.state_bytes / 2**20:17.1f} "
        f"{r.temporary_bytes / 2**20:23.1f} {1e3 * r.save_blocked_seconds:15.1f} {r.save_blocked_steps:9.2f} "
        f"{r.compile_seconds:10.1f}"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_s16")
    parser.add_argument("--stage", default="semi", choices=("mae", "finetune", "semi"))
    parser.add_argument("--batch", type=int, default=16, help="images per update (semi: labeled ones), 2 per device")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES, choices=DEVICES)
    parser.add_argument("--fsdp", type=int, nargs="+", help="only these of 1 and the number of devices")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here as well")
    options = parser.parse_args()
    case = Case(options.model, options.stage, options.batch, options.image_size, 10, "float32")
    rows = []
    for devices in options.devices:
        for fsdp in sorted({1, devices} & set(options.fsdp or {1, devices})):
            rows.append(measure(case, devices=devices, fsdp=fsdp, steps=options.steps))
            line = json.dumps(dataclasses.asdict(case) | dataclasses.asdict(rows[-1]) | machine())
            print(line, flush=True)
            if options.out:
                with open(options.out, "a") as file:
                    file.write(f"{line}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
