"""Stopped or killed at any moment, a run that is started again ends as if nothing had happened."""

import random
import signal

import pytest

from tests.e2e.conftest import stop, without_semi
from tests.e2e.killing import kill_once
from tests.e2e.planned import PLANNED
from tests.e2e.runs import Machine, assert_same_run

pytestmark = pytest.mark.xdist_group("runs")

STAND_IN = {"quick": PLANNED, "changes": {"stages": ("semi",)}, "altered": {"trouble": {}}}


@pytest.fixture(scope="module")
def interrupted(machine, tmp_path_factory):
    """A run that was preempted, interrupted and killed twice; its folder, exit codes, and what it said at last."""
    workdir = tmp_path_factory.mktemp("runs") / "interrupted"
    chance = random.Random(0)
    assert kill_once(machine, workdir, chance, while_saving=True)
    preempted = stop(machine.start(workdir), signal.SIGTERM, at="finetune: step")
    assert kill_once(machine, workdir, chance, while_saving=False)
    interrupt = stop(machine.start(workdir), signal.SIGINT, at="semi: step")
    return workdir, preempted, interrupt, machine.finish(workdir)


def test_a_killed_run_ends_as_if_nothing_had_happened(interrupted, untouched):
    assert_same_run(interrupted[0], untouched)


def test_preemption_exits_75_and_ctrl_c_130(interrupted):
    assert interrupted[1:3] == ([75], [130])


def test_a_restart_tells_where_its_time_went(interrupted):
    assert "restore" in interrupted[3]
    assert "compile" in interrupted[3]


def test_runs_of_one_host_share_what_was_compiled(tmp_path):
    own = Machine(tmp_path / "cache")
    own.finish(tmp_path / "first", **STAND_IN)
    compiled = own.compiled_steps()
    assert compiled, "the first run left no compiled step in the cache"
    own.finish(tmp_path / "second", **STAND_IN)
    assert own.compiled_steps() == compiled


def test_nothing_half_written_is_left(interrupted):
    workdir = interrupted[0]
    assert not list(workdir.rglob("*orbax-checkpoint-tmp*"))
    assert not list(workdir.glob("*/checkpoints/*.removed"))
    assert all((folder / "MANIFEST.json").exists() for folder in workdir.glob("*/checkpoints/*"))


def kill_and_stop_two(machine, workdir, **options):
    """Kills one of two processes of a run while it saves, preempts both of the next start, and ends the run."""
    assert kill_once(machine, workdir, random.Random(1), while_saving=True, processes=2, **options)
    assert stop(machine.start(workdir, processes=2, **options), signal.SIGTERM, at="semi: step") == [75, 75]
    machine.finish(workdir, processes=2, **options)


def test_one_of_two_processes_killed(machine, tmp_path):
    """With the stand-in, whose params are the batches it saw: what saves, restores and reads is the same."""
    machine.finish(tmp_path / "untouched", processes=2, **STAND_IN)
    kill_and_stop_two(machine, tmp_path / "killed", **STAND_IN)
    assert_same_run(tmp_path / "killed", tmp_path / "untouched")


@pytest.mark.slow
def test_one_of_two_processes_killed_in_the_real_stage(machine, untouched_pair, tmp_path):
    """Its last stage; what goes before it is taken from the untouched run."""
    workdir = without_semi(untouched_pair, tmp_path / "killed")
    kill_and_stop_two(machine, workdir)
    assert_same_run(workdir, untouched_pair)
