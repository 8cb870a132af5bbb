"""Traces of a few updates: begun and ended where they should, asked for through a file, and never a run's failure."""

import json
import time

import jax
import jax.numpy as jnp
import pytest

from semivit_jax import main
from semivit_jax.checkpoints import workdir
from semivit_jax.config import to_dict
from semivit_jax.hosts import identity
from semivit_jax.training import lease, profiling
from semivit_jax.training.profiling import Profiler
from tests.configs import small_config


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The folder of a stage that trains."""
    monkeypatch.setattr(profiling, "LOOK_SECONDS", 0.0)
    folder = tmp_path / "run" / "semi"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def traced(monkeypatch):
    """What is traced: 'begin', numbers of updates, 'end'."""
    told = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: told.append("begin"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("end"))
    return told


def train(profiler, traced, *, steps, restored_step=0, ask_at=None):
    """Updates as the loop makes them, with a log line after each; a request comes after `ask_at`."""
    for done in range(restored_step, steps):
        profiler.before_update(done, jnp.zeros(()))
        traced.append(done + 1)
        if done + 1 == ask_at:
            profiling.ask(profiler._folder.parent, 2)
        profiler.look()
        while profiler._looking.is_alive():
            time.sleep(0.001)
    profiler.close()


def log_of(**values):
    return small_config(**{f"log.{key}": value for key, value in values.items()}).log


@pytest.mark.parametrize(
    ("at", "restored_step", "expected"),
    [
        (0, 0, [1, 2, 3, 4, 5]),
        (1, 0, ["begin", 1, 2, "end", 3, 4, 5]),
        (3, 0, [1, 2, "begin", 3, 4, "end", 5]),
        (5, 0, [1, 2, 3, 4, "begin", 5, "end"]),  # the stage is over before it is
        (3, 2, ["begin", 3, 4, "end", 5]),
        (2, 2, [3, 4, 5]),  # it was made before the restart
        (9, 0, [1, 2, 3, 4, 5]),
    ],
)
def test_the_updates_that_the_config_names_are_traced(at, restored_step, expected, stage, traced):
    profiler = Profiler(stage, log_of(profile_at=at, profile_steps=2), active=True)
    train(profiler, traced, steps=5, restored_step=restored_step)
    assert traced == expected


def test_a_request_is_answered_after_the_next_log_line_and_once(stage, traced):
    train(Profiler(stage, log_of(), active=True), traced, steps=6, ask_at=2)
    assert traced == [1, 2, "begin", 3, 4, "end", 5, 6]
    assert not (stage.parent / profiling.REQUEST).exists()


def test_a_request_during_a_trace_waits_for_its_end(stage, traced):
    train(Profiler(stage, log_of(profile_at=1, profile_steps=3), active=True), traced, steps=6, ask_at=1)
    assert traced == ["begin", 1, 2, 3, "end", "begin", 4, 5, "end", 6]


def test_other_hosts_trace_nothing(stage, traced):
    profiler = Profiler(stage, log_of(profile_at=1), active=False)
    train(profiler, traced, steps=2, ask_at=1)
    assert traced == [1, 2]
    assert (stage.parent / profiling.REQUEST).exists()


def test_a_look_waits_for_the_one_before_and_comes_seldom(stage, monkeypatch):
    looks = []
    monkeypatch.setattr(profiling, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(Profiler, "_look", lambda self: looks.append(1))
    profiler = Profiler(stage, log_of(), active=True)
    for _ in range(5):
        profiler.look()
        profiler._looking.join()
    assert len(looks) == 1


def test_a_trace_is_where_tools_look_for_one(stage, capsys):
    """For real, around a program of its own."""
    profiler = Profiler(stage, log_of(profile_at=2, profile_steps=1), active=True)
    step = jax.jit(lambda x: jnp.sin(x) @ x)
    state = jnp.ones((8, 8))
    for done in range(3):
        profiler.before_update(done, state)
        state = step(state)
    profiler.close()
    (trace,) = stage.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 0
    assert capsys.readouterr().out == f"semi: profile of updates 2 to 2 ...\nsemi: profile in {stage / 'profile'}\n"


@pytest.mark.parametrize("where", ["start_trace", "stop_trace"])
def test_a_trace_that_fails_is_told_and_training_goes_on(where, stage, traced, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr(jax.profiler, where, fail)
    train(Profiler(stage, log_of(profile_at=1, profile_steps=1), active=True), traced, steps=3)
    assert [told for told in traced if told not in ("begin", "end")] == [1, 2, 3]
    told = [record.getMessage() for record in caplog.records]
    assert told == ["semi: no profile (Only one profile may be run at a time.); training goes on"]


@pytest.mark.parametrize("content", ["", "[]", '{"steps": "x"}', '{"steps": 0}', '{"steps": -3}'])
def test_a_request_that_says_nothing_is_no_failure(content, stage, traced):
    (stage.parent / profiling.REQUEST).write_text(content)
    train(Profiler(stage, log_of(), active=True), traced, steps=3)
    assert traced == [1, 2, 3]


# ---- semivit profile


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "mae").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_dict(small_config())))
    workdir.mark_done(folder / "mae")
    return folder


def profile(folder, *more):
    return main.main(["semivit", "profile", f"--workdir={folder}", *more])


def test_a_run_that_trains_is_asked(run, capsys):
    with lease.held(run):
        assert profile(run, "--steps=3") == 0
        assert json.loads((run / profiling.REQUEST).read_text()) == {"steps": 3}
        assert profile(run) == 0
    assert json.loads((run / profiling.REQUEST).read_text()) == {"steps": 5}
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"asked {identity.this_process()}: a trace of 3 updates begins after its next log line")
    assert first.endswith(f"and comes into {run / 'finetune' / 'profile'}")
    assert "a trace of 5 updates" in second


def test_a_run_that_does_not_train_is_told(run, capsys):
    assert profile(run) == 1
    assert f"nothing trains in {run} now; a start with --config.log.profile_at" in capsys.readouterr().err
    workdir.mark_done(run)
    assert profile(run) == 1
    assert f"{run} is finished, so there is nothing to trace" in capsys.readouterr().err
    assert profile(run / "mae") == 1
    assert f"{run / 'mae'} is no run: it has no config.json" in capsys.readouterr().err
    assert not (run / profiling.REQUEST).exists()


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
def test_a_number_of_updates_that_is_none_is_refused(steps, run, capsys):
    with pytest.raises(SystemExit) as left:
        profile(run, f"--steps={steps}")
    assert left.value.code == 2
    assert f"{steps!r} is no number of updates; legal is 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("alive", [True, False])
def test_a_run_of_another_machine_is_believed_when_it_shows_itself(alive, run, monkeypatch, capsys):
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(lease, "_ALIVE_SECONDS", 0.2)
    other = identity.Process("tpu-vm-0", "machine", "boot", "namespace", 7, "1")
    held = {"process": vars(other), "token": "t", "since": "noon", "beat": 0}
    beats = iter(range(1000))

    def pass_by(seconds):
        if alive:
            held["beat"] = next(beats)
            (run / lease.LEASE).write_text(json.dumps(held))
        time.monotonic()

    (run / lease.LEASE).write_text(json.dumps(held))
    monkeypatch.setattr(lease.time, "sleep", pass_by)
    assert profile(run) == (0 if alive else 1)
    captured = capsys.readouterr()
    assert ("asked process 7 on tpu-vm-0" in captured.out) is alive
    assert ("nothing trains in" in captured.err) is not alive
