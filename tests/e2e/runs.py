"""Real runs of `semivit train` in processes of their own, for tests that stop, kill and compare them."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import orbax.checkpoint as ocp

from semivit_jax.checkpoints import reading
from tests.caching import KEEPS_EVERYTHING
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
    "checkpoint.save_every_steps": 3, "log.every_steps": 2, "log.tensorboard": False, "log.report": False,
}  # fmt: skip

STAGES = ("mae", "finetune", "semi")
CLASSIFYING = {"stages": STAGES[1:]}  # what is saved and restored of pre-training is less
LAST = {"stages": STAGES[2:], "semi.epochs": 0.25}  # the most is drawn, saved and restored in it; three checkpoints


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where runs keep the data set and their compiled programs; shared, so that only the first one compiles."""

    cache: Path

    @property
    def compiled(self) -> Path:
        """Folder of compiled programs."""
        return self.cache / "semivit_jax" / "compiled"

    def environ(self, *, devices: int) -> dict[str, str]:
        """Environment of a process with so many simulated devices, compiling quickly rather than well."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("SEMIVIT_", "JAX_", "XLA_"))}
        return environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}",
            "XDG_CACHE_HOME": str(self.cache),
            "JAX_COMPILATION_CACHE_DIR": str(self.compiled),  # where training has it too, unless told otherwise
            **KEEPS_EVERYTHING,
            "PYTHONPATH": str(ROOT),
        }

    def compiled_steps(self) -> set[str]:
        """Train and evaluation steps in the compilation cache that all runs of this machine share."""
        return {p.name for p in self.compiled.glob("*_step-*-cache")}

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
        altered: Mapping[str, object] = MappingProxyType({}),
        within: Sequence[str] = (),
        last_within: Sequence[str] = (),
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
          altered: what `tests.e2e.altered` is to change in the program itself.
          within: a command that runs the one that follows it, with other rights or other mounts.
          last_within: the same for the last process alone.
        """
        commands = [_command(config, workdir, {**quick, **changes}, altered) for _ in range(processes)]
        commands[-1] = _command(config, workdir, {**quick, **changes, **different}, altered)
        commands = [[*within, *command] for command in commands]
        commands[-1] = [*last_within, *commands[-1]]
        return self.start_commands(commands, devices=devices)

    def start_commands(self, commands: Sequence[list[str]], *, devices: int = 1) -> "Started":
        """Starts one process per command; several are joined on the loopback interface."""
        environs = [self.environ(devices=devices) for _ in commands]
        if len(commands) > 1:
            address = f"localhost:{_free_port()}"
            for index, environ in enumerate(environs):
                environ |= {
                    "SEMIVIT_COORDINATOR": address,
                    "SEMIVIT_NUM_PROCESSES": str(len(commands)),
                    "SEMIVIT_PROCESS_ID": str(index),
                }
        return Started([_Process(*pair) for pair in zip(commands, environs, strict=True)])

    def finish(self, workdir: Path, **options) -> str:
        """Runs to the end; returns what the first process printed."""
        started = self.start(workdir, **options)
        codes = started.wait()
        assert set(codes) == {0}, started.output()
        return started.processes[0].text()


def common_machine(cache: Path) -> Machine:
    """A machine with the compiled programs of all tests (`tests/conftest.py`)."""
    machine = Machine(cache)
    compiled = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).absolute()
    for folder in (compiled, machine.compiled.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another worker was quicker
        machine.compiled.symlink_to(compiled)
    return machine


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


def _command(config: str, workdir: Path, values: Mapping[str, object], altered: Mapping[str, object]) -> list[str]:
    altered = {"baselines": False, **altered}  # they take two seconds at every end; test_written_before has them
    program = ["tests.e2e.altered", json.dumps(altered)]
    return [sys.executable, "-m", *program, *train_command(config, workdir, values)]


def train_command(config: str, workdir: Path, values: Mapping[str, object]) -> list[str]:
    """Arguments of `semivit` that train by a recipe, with some of its values changed."""
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return ["train", f"--config={config}", f"--workdir={workdir}", *flags]


def logged(workdir: Path) -> dict[str, object]:
    """Every number a finished run has written, but how fast it was."""
    found: dict[str, object] = {"summary": _steady(json.loads((workdir / "summary.json").read_text()))}
    for stage in (s for s in STAGES if (workdir / s).exists()):
        lines = (workdir / stage / "metrics.jsonl").read_text().splitlines()
        found[f"{stage} metrics"] = [_steady(json.loads(line)) for line in lines]
        found[f"{stage} report"] = _steady(json.loads((workdir / stage / "report.json").read_text()))
    return found


def _steady(values: dict) -> dict:
    return {k: v for k, v in values.items() if k not in ("seconds", "goodput") and not k.startswith("perf/")}


def final_arrays(workdir: Path, stage: str) -> dict[str, np.ndarray]:
    """The state of a stage's newest good checkpoint, in the types it was saved in."""
    source = reading.newest_good(workdir / stage / "checkpoints")
    assert source is not None
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = dict(reader.metadata(source / "state").item_metadata.tree)
        as_saved = {name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=meta.dtype) for name, meta in tree.items()}
        return reader.restore(source / "state", args=ocp.args.PyTreeRestore(item=tree, restore_args=as_saved))


def assert_same_run(workdir: Path, other: Path) -> None:
    """Bit-identical: states of all stages that the other has, and every logged number."""
    assert logged(workdir) == logged(other)
    for stage in (s for s in STAGES if (other / s).exists()):
        found, wanted = final_arrays(workdir, stage), final_arrays(other, stage)
        assert found.keys() == wanted.keys()
        different = [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]
        assert not different, f"{stage}: {different}"


def assert_close_run(workdir: Path, other: Path, *, rtol: float) -> None:
    """Equal to float32's rounding: states of all stages to `rtol`, and every logged number to 1e-5."""
    _assert_close(logged(workdir), logged(other), "", rtol=1e-5)
    for stage in (s for s in STAGES if (other / s).exists()):
        found, wanted = (_without_key_bias(final_arrays(w, stage)) for w in (workdir, other))
        _assert_close_arrays(found, wanted, stage, rtol=rtol)


def assert_equal_in_float64(workdir: Path, other: Path, *, stages: Sequence[str] = STAGES) -> None:
    """The same for runs in float64 (`tests.e2e.altered`): nothing is left out."""
    _assert_close(logged(workdir), logged(other), "", rtol=1e-12)
    for stage in stages:
        found, wanted = final_arrays(workdir, stage), final_arrays(other, stage)
        assert {a.dtype.name for n, a in wanted.items() if n.startswith(("params.", "opt_state.mu"))} == {"float64"}
        _assert_close_arrays(found, wanted, stage, rtol=1e-9)


def _without_key_bias(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the middle third of the fused projection's bias, the keys'.

    A constant added to all keys changes no softmax, so its gradient is zero but for rounding, which Adam turns into
    whole steps. In float64 rounding stays far below Adam's eps, and the keys' bias agrees like all else.
    """
    return {
        name: np.delete(array, np.s_[array.shape[-1] // 3 : 2 * array.shape[-1] // 3], axis=-1)
        if name.endswith("attn.qkv.bias")
        else array
        for name, array in arrays.items()
    }


def _assert_close_arrays(
    found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], stage: str, *, rtol: float
) -> None:
    """Each value to `rtol` of its array's largest."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        scale = np.abs(array).max()
        np.testing.assert_allclose(found[name], array, rtol=0, atol=rtol * scale, err_msg=f"{stage}: {name}")


def _assert_close(found: object, wanted: object, path: str, *, rtol: float) -> None:
    """The same structure and texts; numbers to `rtol`."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict)
        assert found.keys() == wanted.keys(), path
        for key in wanted:
            _assert_close(found[key], wanted[key], f"{path}/{key}", rtol=rtol)
    elif isinstance(wanted, list):
        assert isinstance(found, list)
        assert len(found) == len(wanted), path
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            _assert_close(a, b, f"{path}/{index}", rtol=rtol)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=0, err_msg=path)
    else:
        assert found == wanted, path


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]
