"""Storage fails under a run: it says so, falls back to the last good checkpoint, and loses nothing."""

import json
import resource
import shutil
import socket
import time

import numpy as np
import pytest

from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.training import goodput, loop
from tests.e2e.planned import PLANNED, TOTAL, Trouble, good_steps, seen_positions
from tests.e2e.runs import ROOT

CALM = Trouble()
ODD = {"log.every_steps": 3}  # saving, every 4 steps, falls between log lines


def metrics(stage_folder):
    lines = [json.loads(line) for line in (stage_folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


@pytest.fixture
def ended(run_semi, monkeypatch, tmp_path):
    """The folder of a stage whose process ended at once, at step 14 of 20."""
    consume = loop.Loop._consume

    def consume_and_end(self, step, found, **options):
        consume(self, step, found, **options)
        if step == 14:
            self.wait()  # a process that ends takes its saves along; here they would go on
            raise SystemExit("killed")

    monkeypatch.setattr(loop.Loop, "_consume", consume_and_end)
    with pytest.raises(SystemExit):
        run_semi(CALM, tmp_path / "ended", **ODD)
    monkeypatch.setattr(loop.Loop, "_consume", consume)
    return tmp_path / "ended" / "semi"


def largest_file(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def cut(folder):
    with open(largest_file(folder), "r+b") as file:
        file.truncate(10)


def flip(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, shutil.rmtree, lambda folder: None], ids=["cut", "flip", "gone", "none"])
def test_a_run_goes_on_from_the_last_good_checkpoint(run_semi, ended, tmp_path, damage):
    newest = good_steps(ended)[-1]
    damage(ended / "checkpoints" / str(newest))
    assert run_semi(CALM, tmp_path / "ended", **ODD) == ended
    whole = run_semi(CALM, tmp_path / "whole", **ODD)
    assert seen_positions(ended) == seen_positions(whole) == list(range(TOTAL))
    assert metrics(ended) == metrics(whole)


def test_a_run_that_lost_everything_does_not_start_afresh(run_semi, ended, tmp_path):
    before = (ended / "metrics.jsonl").read_text()
    for step in good_steps(ended):
        cut(ended / "checkpoints" / str(step))
    for _ in range(2):  # a launcher starts it again
        with pytest.raises(CheckpointError, match="none is left that can be trusted"):
            run_semi(CALM, tmp_path / "ended", **ODD)
    assert (ended / "metrics.jsonl").read_text() == before


def test_an_error_elsewhere_does_not_cost_a_save_in_flight(run_semi, monkeypatch, tmp_path):
    save = loop.Loop._save

    def save_and_fail(self, step, state):
        save(self, step, state)
        if step == 8:
            raise OSError("the photos have gone")

    monkeypatch.setattr(loop.Loop, "_save", save_and_fail)
    with pytest.raises(OSError, match="the photos have gone"):
        run_semi(CALM)
    assert good_steps(tmp_path / "semi") == [4, 8]


@pytest.mark.usefixtures("given_up_writes")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's other writes, given up
def test_a_full_disk_ends_the_run_and_costs_no_checkpoint(run_semi, monkeypatch, tmp_path):
    """From step 10 on no file may grow, so the third checkpoint cannot be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = loop.Loop._save

    def save_on_a_full_disk(self, step, state):
        if step >= 10:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        save(self, step, state)
        self.wait()

    monkeypatch.setattr(loop.Loop, "_save", save_on_a_full_disk)
    # It would be told that the time is not kept, in an output that is a file as well.
    monkeypatch.setattr(goodput, "_write", lambda book, file: None)
    try:
        with pytest.raises(CheckpointError, match="the last good checkpoint is step 8"):
            run_semi(CALM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.setattr(loop.Loop, "_save", save)
    assert good_steps(tmp_path / "semi") == [4, 8]
    assert seen_positions(run_semi(CALM)) == list(range(TOTAL))


@pytest.mark.parametrize("full_on", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_disk_that_is_full_for_one_of_two_processes_ends_both(machine, tmp_path, full_on, go_on_here):
    """The one at fault is named by both, long before orbax would give up waiting for it (20 minutes)."""
    options = {"quick": PLANNED, "changes": {"stages": ("semi",)}}
    altered = {"trouble": {}, "fill_disk": [12, full_on], "goodbye": 1.0}
    started = machine.start(tmp_path / "run", processes=2, **options, altered=altered)
    assert started.wait(timeout=120.0) == [1, 1], started.output()
    for process in started.processes:
        said = process.text()
        assert (
            f"semivit: error: process {full_on} (host {socket.gethostname()}): saving to {tmp_path}/run/semi/" in said
        )
        assert "File too large" in said
        assert "the last good checkpoint is step 8" in said
        assert f'File "{ROOT}' not in said  # a traceback of ours; tensorstore may print its own
        assert "tensorstore_spec" not in said.partition("semivit: error:")[2]
    assert good_steps(tmp_path / "run" / "semi") == [4, 8]
    assert "semi: continues from step 8" in go_on_here(tmp_path / "run")
    assert seen_positions(tmp_path / "run" / "semi") == list(range(TOTAL))


def test_the_log_tells_how_long_saving_kept_the_loop(run_semi, monkeypatch):
    save = Saver.save

    def slow_save(self, *args, **options):
        time.sleep(0.3)
        save(self, *args, **options)

    monkeypatch.setattr(Saver, "save", slow_save)
    lines = [json.loads(line) for line in (run_semi(CALM) / "metrics.jsonl").read_text().splitlines()]
    kept = {line["step"]: line["perf/save_seconds"] for line in lines if "perf/save_seconds" in line}
    assert all(kept[step + 1] >= 0.3 for step in (4, 8, 12, 16))  # saved after the step's own line
    assert np.median(list(kept.values())) < 0.3
