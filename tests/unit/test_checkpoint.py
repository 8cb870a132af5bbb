"""Checkpoints under faults of storage: fall back to the last good one, or say so; never lose one."""

import json
import resource
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.checkpoints import manifest, recovery
from semivit_jax.checkpoints.reading import CheckpointError, newest_good, read_facts
from semivit_jax.checkpoints.saving import Saver

NOISE = np.random.default_rng(0).random((64, 64), np.float32)  # so that the arrays are the largest file


def state_of(step):
    return {"params": {"kernel": jnp.asarray(NOISE + step)}, "step": jnp.asarray(step, jnp.int32)}


@pytest.fixture
def target():
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    described = jax.eval_shape(lambda: state_of(0))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), described)


class Folder:
    """A folder of checkpoints that can be opened again, as a restart does."""

    def __init__(self, path):
        self.path, self.said, self.opened = path, [], []

    def open(self, keep=2):
        self.opened.append(Saver(self.path, keep=keep))
        return self.opened[-1]

    def save(self, *steps, keep=2):
        saver = self.open(keep)
        for step in steps:
            saver.save(step, state_of(step), {"step": step})
            saver.wait()
        return saver

    def latest(self, target):
        return recovery.restore_latest(self.path, target, say=self.said.append)

    def largest_file(self, step):
        files = [f for f in (self.path / str(step)).rglob("*") if f.is_file()]
        return max(files, key=lambda f: f.stat().st_size)

    def steps(self):
        return sorted(int(p.name) for p in self.path.iterdir())


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "checkpoints")
    yield found
    for saver in found.opened:
        saver.close()


def once_writing_has_ended(restart):
    """A restart is another process; in this one, writes that were given up may still be under way for a moment."""
    end = time.monotonic() + 20.0
    while True:
        try:
            return restart()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def save_and_wait(saver, step):
    """The error of a failed save comes from whichever call meets it first."""
    saver.save(step, state_of(step), {})
    saver.wait()


def truncate(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


FAULTS = pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.unlink()], ids=["cut", "flip", "gone"])


def test_what_was_saved_comes_back(folder, target):
    folder.save(1, 2)
    found = folder.latest(target)
    assert found is not None
    assert (found.step, found.facts) == (2, {"step": 2})
    np.testing.assert_array_equal(found.state["params"]["kernel"], NOISE + 2)


def test_donating_the_state_right_after_saving_changes_nothing(folder, target):
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    saver, state = folder.open(), state_of(1)
    saver.save(1, state, {})
    for _ in range(50):
        state = step(state)
    saver.wait()
    found = folder.latest(target)
    np.testing.assert_array_equal(found.state["params"]["kernel"], NOISE + 1)


def test_sealing_happens_beside_the_loop(folder, monkeypatch):
    may_seal, seal = threading.Event(), manifest.seal
    monkeypatch.setattr(manifest, "seal", lambda directory: may_seal.wait(10.0) and seal(directory))
    saver = folder.open()
    saver.save(1, state_of(1), {})
    while not (folder.path / "1").exists():
        time.sleep(0.01)
    started = time.monotonic()
    for _ in range(10):
        saver.poll()
    assert time.monotonic() - started < 5.0
    assert saver.pending
    may_seal.set()
    saver.wait()
    assert manifest.is_sealed(folder.path / "1")


@FAULTS
def test_a_damaged_checkpoint_is_passed_over_and_kept_aside(folder, target, damage):
    folder.save(1, 2)
    damage(folder.largest_file(2))
    found = folder.latest(target)
    assert found.step == 1
    assert "passed over" in folder.said[0]
    assert (folder.path.with_name("checkpoints_set_aside") / "2.0").exists()


@FAULTS
def test_with_no_good_one_left_it_does_not_start_afresh(folder, target, damage):
    folder.save(1)
    damage(folder.largest_file(1))
    for _ in range(2):  # the second start finds the damaged one set aside, and must not forget
        with pytest.raises(CheckpointError, match=r"good checkpoint at step 1, and none is left"):
            folder.latest(target)


def test_deleted_checkpoints_are_missed(folder, target):
    folder.save(1)
    shutil.rmtree(folder.path)
    with pytest.raises(
        CheckpointError, match="step 1, and none is left that can be trusted; remove the stage's folder"
    ):
        folder.latest(target)


def test_without_its_manifest_a_whole_checkpoint_is_still_good(folder, target):
    """The process ended, or a file was lost, between the last two files of a checkpoint."""
    folder.save(1)
    (folder.path / "1" / "MANIFEST.json").unlink()
    assert folder.latest(target).step == 1


def test_a_good_checkpoint_that_was_emptied_is_told_apart_from_one_never_completed(folder, target):
    folder.save(1, 2)
    for path in (folder.path / "2").glob("*anifest*"):
        path.unlink()
    (folder.path / "2" / "MANIFEST.json").unlink()
    (folder.path / "3" / "state").mkdir(parents=True)
    assert folder.latest(target).step == 1
    assert folder.said[0].endswith("/3 is passed over: it was never completed (no manifest)")
    assert folder.said[1].endswith("/2 is passed over: its manifest is gone")
    assert (folder.path.with_name("checkpoints_set_aside") / "2.0" / "state").exists()
    assert folder.steps() == [1]


def test_an_interrupted_save_is_removed(folder, target):
    folder.save(1)
    (folder.path / "2" / "state").mkdir(parents=True)
    (folder.path / "3.orbax-checkpoint-tmp-0").mkdir()
    (folder.path / "0.removed").mkdir()
    assert folder.latest(target).step == 1
    assert folder.steps() == [1]


def test_a_fresh_folder_is_no_error(folder, target):
    assert folder.latest(target) is None


def test_only_the_newest_good_ones_are_kept(folder):
    folder.save(1, 2, 3, 4, keep=2)
    assert folder.steps() == [3, 4]


@pytest.mark.usefixtures("given_up_writes")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's other writes, given up
def test_a_save_that_fails_deletes_nothing(folder, target):
    """As on a full disk: no file may grow, so writing the arrays fails."""
    saver = folder.save(1, keep=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(CheckpointError, match="the last good checkpoint is step 1"):
            save_and_wait(saver, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        folder.opened.clear()  # it failed, and closing it would say so again
    assert once_writing_has_ended(lambda: folder.latest(target)).step == 1
    assert folder.steps() == [1]


def test_going_back_sets_newer_ones_aside(folder, target):
    saver = folder.save(10, 20, 30, keep=3)
    assert recovery.newest_healthy(folder.path, 25) == 20
    assert recovery.newest_healthy(folder.path, 5) == 10
    recovery.set_aside_after(folder.path, 20)
    assert json.loads(folder.path.with_suffix(".json").read_text()) == {"step": 20}
    assert folder.latest(target).step == 20
    saver.save(30, state_of(31), {})  # the same step can be saved again
    saver.wait()
    np.testing.assert_array_equal(folder.latest(target).state["params"]["kernel"], NOISE + 31)
    assert (folder.path.with_name("checkpoints_set_aside") / "30.0").exists()


def test_reading_alone_moves_nothing(folder):
    folder.save(1, 2)
    assert newest_good(folder.path) == folder.path / "2"
    flip(folder.largest_file(2))
    assert newest_good(folder.path) == folder.path / "1"
    assert folder.steps() == [1, 2]


def test_a_step_that_is_trained_again_after_a_restart_replaces_its_best_weights(folder):
    """A restart from an older checkpoint comes by the step of the best weights again, maybe with better ones."""
    folder.save(800, keep=1)
    again = folder.open(keep=1)
    again.save(800, state_of(7), {"step": 800, "better": True})
    again.wait()
    assert folder.steps() == [800]
    assert read_facts(folder.path / "800")["better"]
    assert not manifest.problems(folder.path / "800")


def test_better_weights_at_an_earlier_step_than_those_of_the_start_before_are_the_ones_kept(folder):
    folder.save(800, keep=1)
    folder.save(750, keep=1)
    assert folder.steps() == [750]
    assert newest_good(folder.path) == folder.path / "750"
