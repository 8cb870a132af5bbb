"""Runs that several tests look at."""

import contextlib
import dataclasses
import io
import os
import signal
from pathlib import Path

import jax
import pytest

from semivit_jax import main
from semivit_jax.checkpoints import workdir as workdirs
from semivit_jax.training import run, summary
from tests.configs import small_config
from tests.decoded import keep_decoded
from tests.e2e.planned import TOTAL, Trouble, stage_with
from tests.e2e.runs import LAST, Machine, Started, common_machine, train_command


@pytest.fixture(scope="session")
def machine(tmp_path_factory) -> Machine:
    """One for all workers: what it keeps may be written by several processes at once."""
    base = tmp_path_factory.getbasetemp()
    return common_machine((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "machine")


@pytest.fixture(scope="session")
def untouched(machine, tmp_path_factory) -> Path:
    """A run of the last stage that nobody disturbed, in one process on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "untouched"
    machine.finish(workdir, changes=LAST)
    return workdir


@pytest.fixture(scope="session")
def untouched_pair(machine, tmp_path_factory) -> Path:
    """The same in two processes."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    machine.finish(workdir, processes=2, changes=LAST)
    return workdir


@pytest.fixture
def run_semi(machine, tmp_path, monkeypatch):
    """Runs the semi stage with trouble; returns the folder of the stage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    monkeypatch.setattr(summary, "baselines", lambda task, data: {})
    keep_decoded(monkeypatch)

    def go(trouble, folder=tmp_path, **changes):
        monkeypatch.setattr("semivit_jax.training.compiled.make_stage", lambda *args, **kwargs: stage_with(trouble))
        values = {
            "stages": ("semi",), "semi.batch_size": 20, "semi.unlabeled_ratio": 1, "semi.warmup_epochs": 0.0,
            "semi.epochs": (TOTAL + 0.2) / 69, "train.eval_every_epochs": 2 / 69, "train.compilation_cache": False,
            "train.max_nonfinite_in_a_row": 3, "train.collapse_window_steps": 3, "checkpoint.save_every_steps": 4,
            "checkpoint.keep": 4, "log.every_steps": 1, "log.tensorboard": False,
        }  # fmt: skip
        run.train(small_config(**(values | changes)), folder)
        return folder / "semi"

    return go


@pytest.fixture
def go_on_here(machine, monkeypatch, capsys):
    """Goes on with a run of the stand-in in this process, which is quicker; returns what it said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    monkeypatch.setattr(summary, "baselines", lambda task, data: {})
    keep_decoded(monkeypatch)
    monkeypatch.setattr("semivit_jax.training.compiled.make_stage", lambda *args, **kwargs: stage_with(Trouble()))

    def go_on(workdir):
        config = workdirs.load_config(workdir)
        run.train(
            dataclasses.replace(config, train=dataclasses.replace(config.train, compilation_cache=False)), workdir
        )
        return capsys.readouterr().out

    return go_on


@pytest.fixture(scope="module")
def train_here(machine):
    """Trains in this process, which is quicker than one of its own; returns all that was said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(machine.cache))
        jax.config.update("jax_disable_most_optimizations", True)

        def train(workdir, *, config, **values):
            said = io.StringIO()
            command = train_command(config, workdir, values | {"train.compilation_cache": False})
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = main.main(["semivit", *command])
            assert code == 0, said.getvalue()
            return said.getvalue()

        yield train
        jax.config.update("jax_disable_most_optimizations", False)


def stop(started: Started, signum: signal.Signals, *, at: str) -> list[int]:
    """Sends a signal to every process once the first one prints `at`; returns the exit codes."""
    assert started.until(started.says(at)), started.output()
    started.send(signum)
    return started.wait()
