"""Runs that several tests look at."""

import signal
from pathlib import Path

import pytest

from tests.e2e.runs import Machine, Started


@pytest.fixture(scope="session")
def machine(tmp_path_factory) -> Machine:
    return Machine(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def untouched(machine, tmp_path_factory) -> Path:
    """A run that nobody disturbed, in one process on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "untouched"
    machine.finish(workdir)
    return workdir


@pytest.fixture(scope="session")
def untouched_pair(machine, tmp_path_factory) -> Path:
    """The same in two processes."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    machine.finish(workdir, processes=2)
    return workdir


def stop(started: Started, signum: signal.Signals, *, at: str) -> list[int]:
    """Sends a signal to every process once the first one prints `at`; returns the exit codes."""
    assert started.until(started.says(at)), started.output()
    started.send(signum)
    return started.wait()
