"""A run in a bucket, with a stage that takes no time: killed while it saves, with a changed object, refused."""

import json
import random

import pytest

from semivit_jax import files
from semivit_jax.checkpoints import manifest, reading
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.files import mirror
from tests.e2e.killing import kill_once
from tests.e2e.planned import PLANNED, TOTAL, Trouble, seen_positions

pytestmark = pytest.mark.xdist_group("bucket")
PLANNED_RUN = {"quick": PLANNED, "changes": {"stages": ("semi",)}, "altered": {"trouble": {}}}


def metrics(stage_folder):
    lines = [json.loads(line) for line in (stage_folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


@pytest.fixture(autouse=True)
def quick_store(monkeypatch):
    """The store of the tests takes writes of an object as they come; `test_places` holds that real ones get time."""
    monkeypatch.setattr(mirror, "BETWEEN_SECONDS", 0.01)


class Planned:
    """Starts the run of the stand-in."""

    def __init__(self, machine):
        self._machine = machine

    def start(self, workdir, *, processes=1):
        return self._machine.start(workdir, processes=processes, **PLANNED_RUN)


def test_killed_while_it_saves_it_ends_as_one_on_a_disk(place, machine, go_on_here, run_semi, tmp_path):
    assert kill_once(Planned(machine), place, random.Random(0), while_saving=True, within=0.0)
    assert not (place / "DONE").exists()
    go_on_here(place)
    assert seen_positions(place / "semi") == list(range(TOTAL))
    on_disk = files.path(run_semi(Trouble(), tmp_path / "disk"))
    assert metrics(place / "semi") == metrics(on_disk)
    assert reading.sealed_steps(place / "semi" / "checkpoints") == reading.sealed_steps(on_disk / "checkpoints")
    assert not files.matching(place / "semi" / "checkpoints", "*.*")
    assert (place / "DONE").exists()


def test_a_checkpoint_is_sealed_once_its_lines_are_in_the_bucket(place, run_semi, monkeypatch):
    seal, lines_there = manifest.seal, {}

    def look_and_seal(directory):
        if directory.parent.name == "checkpoints":
            lines_there[int(directory.name)] = metrics(directory.parents[1])[-1]["step"]
        return seal(directory)

    monkeypatch.setattr(manifest, "seal", look_and_seal)
    run_semi(Trouble(), place)
    assert sorted(lines_there) == [4, 8, 12, 16, 20]
    assert all(line >= step for step, line in lines_there.items())


def test_a_changed_object_is_passed_over_aloud_for_the_older_checkpoint(place, run_semi, monkeypatch, capsys):
    run_semi(Trouble(), place)
    newest = place / "semi" / "checkpoints" / str(TOTAL)
    largest = max(files.inventory(newest).values(), key=lambda file: file.size).place
    largest.write_bytes(largest.read_bytes()[:-1] + b"\0\0"[:1])
    for done in (place / "DONE", place / "semi" / "DONE"):
        done.unlink()
    run_semi(Trouble(), place)
    said = capsys.readouterr().out
    assert f"checkpoint {newest} is passed over: " in said
    assert "does not match its checksum" in said
    assert f"semi: continues from step {TOTAL - 4}" in said
    assert (place / "semi" / "checkpoints_set_aside" / f"{TOTAL}.0" / "MANIFEST.json").exists()
    assert seen_positions(place / "semi") == list(range(TOTAL))


def test_another_config_is_refused_and_changes_nothing(place, run_semi):
    run_semi(Trouble(), place)
    before = files.inventory(place)
    with pytest.raises(Exception, match=rf"^{place} belongs to a run with another config"):
        run_semi(Trouble(), place, seed=1)
    assert files.inventory(place) == before


def test_requests_are_fewer_than_steps_between_saves(proxy, place_behind, run_semi, monkeypatch):
    """TensorBoard is written too; `benchmarks/bucket.py` tells what a save of a real stage takes."""
    began, sealed, save = {}, {}, Saver.save

    def count(self, step, *args, **options):
        began.setdefault(step, len(proxy.seen))
        save(self, step, *args, **options)
        self.wait()
        sealed[step] = len(proxy.seen)

    monkeypatch.setattr(Saver, "save", count)
    values = {"checkpoint.save_every_steps": 10, "log.tensorboard": True, "train.eval_every_epochs": 1.0}
    run_semi(Trouble(), place_behind, **values)
    assert began[TOTAL] - sealed[10] < TOTAL - 10
    assert sealed[10] - began[10] < 120


def test_an_address_is_refused_as_the_flag_has_it(capsys):
    from semivit_jax.main import main

    assert main(["semivit", "train", "--config=digits", "--workdir=gs:/b/x"]) == 2
    assert capsys.readouterr().err == "semivit train: --workdir=gs:/b/x has one slash too few; write gs://b/x\n"
