"""Stopped or killed at any moment, a run that is started again ends as if nothing had happened."""

import random
import signal

import pytest

from tests.e2e.conftest import stop, without_semi
from tests.e2e.killing import kill_once
from tests.e2e.planned import PLANNED, TOTAL, seen_positions
from tests.e2e.runs import CLASSIFYING, Machine, assert_same_run

pytestmark = pytest.mark.xdist_group("runs")

STAND_IN = {"quick": PLANNED, "changes": {"stages": ("semi",)}, "altered": {"trouble": {}}}


@pytest.fixture(scope="module")
def interrupted(machine, tmp_path_factory):
    """A run that was killed in its first stage and interrupted in its last; its folder, exit code, and last words.

    `make soak` kills and preempts at other moments, and more often.
    """
    workdir = tmp_path_factory.mktemp("runs") / "interrupted"
    assert kill_once(machine, workdir, random.Random(0), while_saving=True, changes=CLASSIFYING)
    code = stop(machine.start(workdir, changes=CLASSIFYING), signal.SIGINT, at="semi: step")
    return workdir, code, machine.finish(workdir, changes=CLASSIFYING)


def test_a_killed_run_ends_as_if_nothing_had_happened(interrupted, untouched):
    assert_same_run(interrupted[0], untouched)


def test_ctrl_c_exits_130(interrupted):
    assert interrupted[1] == [130]


def test_a_restart_tells_where_its_time_went(interrupted):
    assert "restore" in interrupted[2]
    assert "compile" in interrupted[2]


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


def kill_and_stop_two(machine, workdir, *, within=1.5, **options):
    """Kills one of two processes of a run while it saves, and preempts both of the next start."""
    assert kill_once(machine, workdir, random.Random(1), while_saving=True, within=within, processes=2, **options)
    assert stop(machine.start(workdir, processes=2, **options), signal.SIGTERM, at="semi: step") == [75, 75]


def test_one_of_two_processes_killed(machine, tmp_path, go_on_here):
    """With the stand-in, whose params are the batches it saw: what saves, restores and reads is the same."""
    kill_and_stop_two(machine, tmp_path / "killed", within=0.1, **STAND_IN)
    assert "semi: continues from step" in go_on_here(tmp_path / "killed")
    assert seen_positions(tmp_path / "killed" / "semi") == list(range(TOTAL))


@pytest.mark.slow
def test_one_of_two_processes_killed_in_the_real_stage(machine, untouched_pair, tmp_path):
    """Its last stage; what goes before it is taken from the untouched run."""
    workdir = without_semi(untouched_pair, tmp_path / "killed")
    kill_and_stop_two(machine, workdir, changes=CLASSIFYING)
    machine.finish(workdir, processes=2, changes=CLASSIFYING)
    assert_same_run(workdir, untouched_pair)
