"""A run that comes no further says where each of its processes waits, keeps their stacks, and goes on."""

import logging
import time

import pytest

from semivit_jax import files
from semivit_jax.hosts import stuck
from semivit_jax.training import watchdog
from semivit_jax.training.goodput import Book
from semivit_jax.training.watchdog import Watchdog
from tests.unit.test_goodput import Clock

MINUTES = 10.0


@pytest.fixture
def clock():
    return Clock()


def watched(clock, folder, *, process=0, processes=1):
    """A book in the midst of a stage, and who watches it."""
    book = Book(clock)
    book.begin("semi")
    book.step = 12
    dog = Watchdog(book, files.path(folder), minutes=MINUTES, process=process, processes=processes)
    return book, dog


def look(dog, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        dog.look()
    return caplog.text


@pytest.mark.parametrize(
    ("phase", "told"),
    [("waiting", "waiting for a batch of images"), ("compiling", "compiling the step"), ("evaluating", "evaluating"),
     ("saving", "waiting for a checkpoint"), ("agreeing", "waiting for the other hosts")],
)  # fmt: skip
def test_a_hang_is_told_once_with_its_phase_and_all_stacks(phase, told, clock, tmp_path, caplog):
    book, dog = watched(clock, tmp_path)
    with book.during(phase):
        clock.tick(60 * MINUTES - 1)
        assert not look(dog, caplog)
        clock.tick(1)
        said = look(dog, caplog)
        assert "no step for 10 min; process 0 (host " in said
        assert f"semi after step 12: {told}" in said
        (file,) = (tmp_path / "hangs").iterdir()
        assert str(file) in said
        assert file.name.endswith("_process_0.txt")
        first, _, stacks = file.read_text().partition("\n")
        assert told in first
        assert "most recent call first" in stacks
        assert "in test_a_hang_is_told_once_with_its_phase_and_all_stacks" in stacks
        clock.tick(600)
        assert not look(dog, caplog)
    assert "process 0 (host" in (said := look(dog, caplog))
    assert "goes on" in said
    assert not look(dog, caplog)


def test_steps_that_come_are_no_hang_however_long_they_take_together(clock, tmp_path, caplog):
    book, dog = watched(clock, tmp_path)
    for _ in range(100):
        with book.during("training"):
            clock.tick(30 * MINUTES)
        assert not look(dog, caplog)
    assert not (tmp_path / "hangs").exists()


def test_the_first_host_tells_who_waits_for_what(clock, tmp_path, caplog):
    (tmp_path / "hangs").mkdir()
    (tmp_path / "hangs" / "20250101T000000_process_2.txt").write_text("process 2 (host c): of another start\n")
    dogs = [watched(clock, tmp_path, process=process, processes=4) for process in range(3)]
    phases = ["agreeing", "waiting", "agreeing"]
    opened = [book.during(phase) for (book, _), phase in zip(dogs, phases, strict=True)]
    for phase in opened:
        phase.__enter__()
    clock.tick(60 * MINUTES)
    for _, dog in reversed(dogs):
        look(dog, caplog)
    assert not look(dogs[0][1], caplog)
    told = look(dogs[0][1], caplog)
    assert not look(dogs[0][1], caplog)
    one, others, silent = told.partition("who waits for what: ")[2].strip().split("; ")
    assert one.startswith("semi after step 12: waiting for a batch of images: process 1 (host")
    assert others.startswith("semi after step 12: waiting for the other hosts: process 0 (host")
    assert ", process 2 (host" in others
    assert silent == "no word of process 3, which may go on, or be gone"


def test_stacks_that_cannot_be_written_are_printed(clock, tmp_path, caplog, capfd):
    (tmp_path / "hangs").touch()
    _, dog = watched(clock, tmp_path)
    clock.tick(60 * MINUTES)
    assert "the stacks follow here" in look(dog, caplog)
    assert "most recent call first" in capfd.readouterr().err


def test_it_looks_by_itself_and_ends_with_the_block(tmp_path, monkeypatch, caplog):
    book = Book(time.monotonic)
    with watchdog.watching(book, files.path(tmp_path), minutes=0.02 / 60), caplog.at_level(logging.WARNING):
        while "no step for" not in caplog.text:
            time.sleep(0.001)
    caplog.clear()
    with watchdog.watching(book, files.path(tmp_path), minutes=0.0):
        time.sleep(0.05)
    assert not caplog.text


# ---- the limit of XLA, on GPUs


def test_the_limit_stands_beside_the_users_flags():
    limited = stuck.flags_with_limit({"XLA_FLAGS": "--xla_a=1"}, 3600.0, is_known=lambda flag: True)
    assert limited == "--xla_a=1 --xla_gpu_nccl_termination_timeout_seconds=3600"
    assert stuck.flags_with_limit({}, 90.4, is_known=lambda flag: True) == f"{stuck.FLAG}=90"


def test_a_limit_of_the_user_stays():
    given = {"XLA_FLAGS": f"{stuck.FLAG}=5"}
    assert stuck.flags_with_limit(given, 3600.0, is_known=lambda flag: True) == given["XLA_FLAGS"]


def test_an_xla_that_does_not_know_the_flag_gets_none():
    assert stuck.flags_with_limit({"XLA_FLAGS": "--xla_a=1"}, 3600.0, is_known=lambda flag: False) == "--xla_a=1"


def test_machines_without_gpus_are_not_asked(monkeypatch):
    monkeypatch.setattr(stuck.accelerators, "find", lambda: stuck.accelerators.Machine(None, ""))
    monkeypatch.setattr(stuck, "is_known", lambda flag: pytest.fail("asked"))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    stuck.limit_waits(60.0)


def test_machines_with_gpus_get_it(monkeypatch):
    gpu = stuck.accelerators.Nvidia(("L4",), "580.1", (13, 0), (8, 9))
    monkeypatch.setattr(stuck.accelerators, "find", lambda: stuck.accelerators.Machine(gpu, ""))
    monkeypatch.setattr(stuck, "is_known", lambda flag: True)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    stuck.limit_waits(60.0)
    assert stuck.os.environ["XLA_FLAGS"] == f"{stuck.FLAG}=60"


@pytest.mark.slow
def test_another_process_says_which_flags_are_known():
    assert stuck.is_known(f"{stuck.FLAG}=3600")
    assert not stuck.is_known("--xla_gpu_no_such_flag=1")
