"""Whole runs in a bucket, against the same runs on a disk, bit for bit (`make test-bucket`)."""

import contextlib
import random
import signal

import pytest

from semivit_jax import files
from semivit_jax.checkpoints import reading
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.files import patience
from tests.bucket.test_run import metrics
from tests.e2e.conftest import stop
from tests.e2e.killing import kill_once
from tests.e2e.planned import PLANNED, TOTAL, Trouble, seen_positions
from tests.e2e.runs import TINY, Machine, assert_same_run

pytestmark = pytest.mark.bucket
TWO_STAGES = {"stages": ("finetune", "semi")}


class Tiny:
    """Starts two tiny stages."""

    def __init__(self, machine: Machine):
        self._machine = machine

    def start(self, workdir, *, processes=1):
        return self._machine.start(workdir, processes=processes, quick=TINY | TWO_STAGES)

    def finish(self, workdir, *, processes=1):
        return self._machine.finish(workdir, processes=processes, quick=TINY | TWO_STAGES)


@pytest.fixture(scope="module")
def tiny(machine):
    return Tiny(machine)


@pytest.fixture(scope="module")
def on_a_disk(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "disk"
    tiny.finish(workdir)
    return workdir


def assert_same(workdir, other):
    assert_same_run(workdir, files.path(other))


def test_killed_at_a_random_moment_and_while_saving_it_ends_as_one_on_a_disk(tiny, place, on_a_disk):
    chance = random.Random(0)
    assert kill_once(tiny, place, chance, while_saving=False)
    assert kill_once(tiny, place, chance, while_saving=True)
    assert stop(tiny.start(place), signal.SIGTERM, at="step 1 began") == [75]
    tiny.finish(place)
    assert_same(place, on_a_disk)
    assert not [
        found for stage in TWO_STAGES["stages"] for found in files.matching(place / stage / "checkpoints", "*.*")
    ]


def test_one_of_two_processes_is_killed(tiny, place, tmp_path):
    untouched = tmp_path / "untouched"
    tiny.finish(untouched, processes=2)
    assert kill_once(tiny, place, random.Random(1), while_saving=True, processes=2)
    tiny.finish(place, processes=2)
    assert_same(place, untouched)


def test_a_store_that_refuses_and_hangs_up_now_and_then_costs_nothing_but_time(
    machine, proxy, place_behind, run_semi, tmp_path
):
    """503 to every fifth request, and every twentieth connection is closed."""

    def verdict(method, path, body):
        number = len(proxy.seen)
        return 0 if number % 20 == 0 else 503 if number % 5 == 0 else None

    proxy.verdict = verdict
    said = machine.finish(
        place_behind, quick=PLANNED | {"checkpoint.save_every_steps": 10}, changes={"stages": ("semi",)},
        altered={"trouble": {}},
    )  # fmt: skip
    assert said.count("the store is away for the moment") == 1
    assert seen_positions(place_behind / "semi") == list(range(TOTAL))
    assert metrics(place_behind / "semi") == metrics(run_semi(Trouble(), tmp_path / "disk"))


def test_the_same_numbers_beside_those_for_tensorboard(place, run_semi, tmp_path):
    found = run_semi(Trouble(), place, **{"log.tensorboard": True})
    assert metrics(found) == metrics(run_semi(Trouble(), tmp_path / "disk"))
    assert [file for file in files.matching(found / "tb", "events*") if files.inventory(found / "tb")[file.name].size]


@contextlib.contextmanager
def from_step_12_on(proxy, verdict):
    """Lets the proxy answer so once the checkpoint before is safe, until the block ends."""
    save = Saver.save

    def save_before(self, step, *args, **options):
        if step == 12:
            self.wait()
            proxy.verdict = verdict
        return save(self, step, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "save", save_before)
        yield
    proxy.verdict = lambda method, path, body: None


@pytest.mark.usefixtures("given_up_writes")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's other writes, given up
def test_a_bucket_that_takes_nothing_any_more_ends_the_run(proxy, place_behind, run_semi, monkeypatch):
    """The last good checkpoint stands, and the same command goes on from it."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(patience, "_IMPATIENCE_SECONDS", 0.2)
    refused = pytest.raises(reading.CheckpointError, match="the last good checkpoint is step 8")
    with from_step_12_on(proxy, lambda method, path, body: 403 if method == "POST" else None), refused:
        run_semi(Trouble(), place_behind)
    assert reading.sealed_steps(place_behind / "semi" / "checkpoints") == [4, 8]
    run_semi(Trouble(), place_behind)
    assert seen_positions(place_behind / "semi") == list(range(TOTAL))


@pytest.mark.usefixtures("given_up_writes")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_store_that_stays_away_ends_the_run(proxy, place_behind, run_semi, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(patience, "_IMPATIENCE_SECONDS", 0.2)
    given_up = pytest.raises((reading.CheckpointError, OSError), match="the store does not answer; tried for")
    with from_step_12_on(proxy, lambda method, path, body: 503), given_up:
        run_semi(Trouble(), place_behind)
    assert reading.sealed_steps(place_behind / "semi" / "checkpoints") == [4, 8]
