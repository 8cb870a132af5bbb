"""Stopped or killed at any moment, a run that is started again ends as if nothing had happened."""

import random
import signal

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.e2e.conftest import stop
from tests.e2e.killing import kill_once, saving, sealed
from tests.e2e.planned import PLANNED, TOTAL, Trouble, seen_positions
from tests.e2e.runs import CLASSIFYING, LAST, Machine, assert_same_run

pytestmark = pytest.mark.xdist_group("runs")

STAND_IN = {"quick": PLANNED, "changes": {"stages": ("semi",)}, "altered": {"trouble": {}}}


@pytest.fixture(scope="module")
def killed(machine, tmp_path_factory):
    """A run killed while it saved a second checkpoint, and started again: its folder and last words.

    `make soak` kills at other moments, and more often.
    """
    workdir = tmp_path_factory.mktemp("runs") / "killed"
    started = machine.start(workdir, changes=LAST)
    stage = workdir / "semi"
    try:
        assert started.until(lambda: sealed(stage) and saving(stage)), started.output()
        started.send(signal.SIGKILL)
    finally:
        started.kill()
    assert not (stage / "DONE").exists()
    return workdir, machine.finish(workdir, changes=LAST)


def test_a_killed_run_ends_as_if_nothing_had_happened(killed, untouched):
    assert "semi: continues from step" in killed[1]
    assert_same_run(killed[0], untouched)


def test_a_restart_tells_where_its_time_went(killed):
    assert "restore" in killed[1]
    assert "compile" in killed[1]


def test_nothing_half_written_is_left(killed):
    workdir = killed[0]
    assert not list(workdir.rglob("*orbax-checkpoint-tmp*"))
    assert not list(workdir.glob("*/checkpoints/*.removed"))
    assert all((folder / "MANIFEST.json").exists() for folder in workdir.glob("*/checkpoints/*"))


@pytest.mark.slow
def test_killed_in_one_stage_and_interrupted_in_the_next(machine, tmp_path):
    workdir = tmp_path / "interrupted"
    assert kill_once(machine, workdir, random.Random(0), while_saving=True, changes=CLASSIFYING)
    assert stop(machine.start(workdir, changes=CLASSIFYING), signal.SIGINT, at="semi: step") == [130]
    machine.finish(workdir, changes=CLASSIFYING)
    machine.finish(tmp_path / "untouched", changes=CLASSIFYING)
    assert_same_run(workdir, tmp_path / "untouched")


@pytest.mark.slow  # by default in one process, below
def test_runs_of_one_host_share_what_was_compiled(tmp_path):
    own = Machine(tmp_path / "cache")
    own.finish(tmp_path / "first", **STAND_IN)
    compiled = own.compiled_steps()
    assert compiled, "the first run left no compiled step in the cache"
    own.finish(tmp_path / "second", **STAND_IN)
    assert own.compiled_steps() == compiled


@pytest.fixture
def own(run_semi, monkeypatch, tmp_path):
    """A machine for runs of this process that keeps what they compile, and nothing of anybody else."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shared = jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    yield Machine(tmp_path / "cache")
    jax.config.update("jax_compilation_cache_dir", shared)
    compilation_cache.reset_cache()


def test_a_second_run_finds_what_the_first_has_compiled(own, run_semi, tmp_path):
    run_semi(Trouble(), tmp_path / "first", **{"train.compilation_cache": True})
    compiled = own.compiled_steps()
    assert compiled, "the first run left no compiled step in the cache"
    run_semi(Trouble(), tmp_path / "second", **{"train.compilation_cache": True})
    assert own.compiled_steps() == compiled


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
    workdir = tmp_path / "killed"
    kill_and_stop_two(machine, workdir, changes=LAST)
    machine.finish(workdir, processes=2, changes=LAST)
    assert_same_run(workdir, untouched_pair)
