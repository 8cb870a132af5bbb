"""Real runs of `semivit train` in processes of their own, for tests that stop, kill and compare them."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from semivit_jax import checkpoint
from tests.compiled import QUICK_FLAGS

ROOT = Path(__file__).parents[2]

# A few steps of each stage, with every kind of draw; saving falls between log lines, so windows must survive.
# The threshold keeps every pseudo label: one that rounding can cross would hide what is compared.
TINY = {
    "mae.epochs": 1.0, "mae.warmup_epochs": 0.2, "mae.batch_size": 128,
    "finetune.epochs": 4.0, "finetune.warmup_epochs": 1.0, "finetune.batch_size": 16,
    "finetune.mixup_group_size": 2, "finetune.labeled_mixup": True, "finetune.erase_prob": 0.25,
    "finetune.drop_path_rate": 0.1,
    "semi.epochs": 0.5, "semi.warmup_epochs": 0.1, "semi.batch_size": 16, "semi.unlabeled_ratio": 2,
    "semi.mixup_group_size": 2, "semi.erase_prob": 0.25, "semi.drop_path_rate": 0.1,
    "semi.confidence_threshold": 0.05,
    "train.eval_every_epochs": 0.2, "train.agree_every_steps": 2,
    "checkpoint.save_every_steps": 3, "log.every_steps": 2, "log.tensorboard": False,
}  # fmt: skip

STAGES = ("mae", "finetune", "semi")


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where runs keep the data set and their compiled programs; shared, so that only the first one compiles."""

    cache: Path

    def environ(self, *, devices: int) -> dict[str, str]:
        """Environment of a process with so many simulated devices, compiling quickly rather than well."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("SEMIVIT_", "JAX_", "XLA_"))}
        return environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}",
            "XDG_CACHE_HOME": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "PYTHONPATH": str(ROOT),
        }

    def start(
        self,
        workdir: Path,
        *,
        processes: int = 1,
        devices: int = 1,
        config: str = "digits",
        quick: Mapping[str, object] = MappingProxyType(TINY),
        changes: Mapping[str, object] = MappingProxyType({}),
        different: Mapping[str, object] = MappingProxyType({}),
    ) -> "Started":
        """Starts `semivit train` in one process or several.

        Args:
          workdir: of the run.
          processes: of the run, joined on the loopback interface.
          devices: simulated ones of each process.
          config: the recipe.
          quick: config values that make it short.
          changes: config values beyond these.
          different: config values of the last process alone.
        """
        commands = [_command(config, workdir, {**quick, **changes}) for _ in range(processes)]
        commands[-1] = _command(config, workdir, {**quick, **changes, **different})
        environs = [self.environ(devices=devices) for _ in range(processes)]
        if processes > 1:
            address = f"localhost:{_free_port()}"
            for index, environ in enumerate(environs):
                environ |= {
                    "SEMIVIT_COORDINATOR": address,
                    "SEMIVIT_NUM_PROCESSES": str(processes),
                    "SEMIVIT_PROCESS_ID": str(index),
                }
        return Started([_Process(*pair) for pair in zip(commands, environs, strict=True)])

    def finish(self, workdir: Path, **options) -> str:
        """Runs to the end; returns what the first process printed."""
        started = self.start(workdir, **options)
        codes = started.wait()
        assert set(codes) == {0}, started.output()
        return started.processes[0].text()


class _Process:
    """A process whose output is read as it comes."""

    def __init__(self, command: list[str], environ: dict[str, str]):
        self.popen = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                self._lines.append(line)

    def text(self) -> str:
        return "".join(self._lines)

    def wait(self, timeout: float) -> int:
        code = self.popen.wait(timeout)
        self._reader.join()
        return code


class Started:
    """The processes of one run."""

    def __init__(self, processes: list[_Process]):
        self.processes = processes

    def until(self, reached: Callable[[], bool], *, timeout: float = 900.0) -> bool:
        """Waits until `reached()`; False where the run ended before."""
        limit = time.monotonic() + timeout
        while not reached():
            if any(p.popen.poll() is not None for p in self.processes):
                return False
            assert time.monotonic() < limit, self.output()
            time.sleep(0.001)
        return True

    def says(self, text: str) -> Callable[[], bool]:
        """Whether the first process has printed this."""
        return lambda: text in self.processes[0].text()

    def send(self, signum: int, *, only: int | None = None) -> None:
        """Sends a signal to all processes, or to one of them."""
        for index, process in enumerate(self.processes):
            if only in (None, index):
                process.popen.send_signal(signum)

    def wait(self, *, timeout: float = 900.0) -> list[int]:
        """Exit codes; whatever has not ended by then is killed, and the test fails."""
        limit = time.monotonic() + timeout
        try:
            return [p.wait(max(0.1, limit - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends what still runs, at once: what a launcher does once one process is gone."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGKILL)
                process.wait(60.0)

    def output(self) -> str:
        return "\n".join(f"--- process {i}\n{p.text()}" for i, p in enumerate(self.processes))


def _command(config: str, workdir: Path, values: Mapping[str, object]) -> list[str]:
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return [sys.executable, "-m", "semivit_jax.main", "train", f"--config={config}", f"--workdir={workdir}", *flags]


def logged(workdir: Path) -> dict[str, object]:
    """Every number a finished run has written, but how fast it was."""
    found: dict[str, object] = {"summary": _steady(json.loads((workdir / "summary.json").read_text()))}
    for stage in (s for s in STAGES if (workdir / s).exists()):
        lines = (workdir / stage / "metrics.jsonl").read_text().splitlines()
        found[f"{stage} metrics"] = [_steady(json.loads(line)) for line in lines]
        found[f"{stage} report"] = _steady(json.loads((workdir / stage / "report.json").read_text()))
    return found


def _steady(values: dict) -> dict:
    return {k: v for k, v in values.items() if k != "seconds" and not k.startswith("perf/")}


def final_arrays(workdir: Path, stage: str) -> dict[str, np.ndarray]:
    """The state of a stage's newest good checkpoint."""
    source = checkpoint.newest_good(workdir / stage / "checkpoints")
    assert source is not None
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    integers = ("step", "position")
    targets = {
        name: jax.ShapeDtypeStruct(shape, "int32" if name in integers or "count" in name else "float32", sharding=here)
        for name, shape in checkpoint.array_shapes(source).items()
    }
    return {name: np.asarray(array) for name, array in checkpoint.restore_arrays(source, targets).items()}


def assert_same_run(workdir: Path, other: Path) -> None:
    """Bit-identical: states of all stages, and every logged number."""
    assert logged(workdir) == logged(other)
    for stage in STAGES:
        found, wanted = final_arrays(workdir, stage), final_arrays(other, stage)
        assert found.keys() == wanted.keys()
        different = [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]
        assert not different, f"{stage}: {different}"


def assert_close_run(workdir: Path, other: Path) -> None:
    """Equal to rounding: states of all stages, and every logged number."""
    _assert_close(logged(workdir), logged(other), "")
    for stage in STAGES:
        found, wanted = final_arrays(workdir, stage), final_arrays(other, stage)
        # The gradient of the keys' bias is zero but for rounding, which Adam turns into whole steps.
        for name in (n for n in wanted if not n.endswith("attn.qkv.bias")):
            np.testing.assert_allclose(found[name], wanted[name], rtol=2e-3, atol=2e-4, err_msg=f"{stage}: {name}")


def _assert_close(found: object, wanted: object, path: str) -> None:
    """The same structure and texts; numbers to rounding, accuracies to a few of 360 images."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict)
        assert found.keys() == wanted.keys(), path
        for key in wanted:
            _assert_close(found[key], wanted[key], f"{path}/{key}")
    elif isinstance(wanted, list):
        assert isinstance(found, list)
        assert len(found) == len(wanted), path
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            _assert_close(a, b, f"{path}/{index}")
    elif isinstance(wanted, float):
        atol = 0.012 if "acc" in path else 1e-6
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=atol, err_msg=path)
    else:
        assert found == wanted, path


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]
