"""Runs that train a part, killed at a bad moment, go on as if nothing had happened."""

import random
import signal

import pytest

from tests.e2e.conftest import machine  # noqa: F401
from tests.e2e.killing import kill_once, saving, sealed
from tests.e2e.runs import assert_same_run, common_machine
from tests.serve.runs import write_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

STAGES = ("finetune", "semi")
HEAD = {
    "model.variant": "vit_test2", "model.tune": "head", "model.head_init": "probe", "data.cache_features": 3,
    "stages": STAGES, "finetune.epochs": 20.0, "semi.epochs": 2.0, "checkpoint.save_every_steps": 2,
}  # fmt: skip


def test_a_killed_run_with_lora_ends_as_if_nothing_had_happened(machine, tmp_path):  # noqa: F811
    write_run(tmp_path / "origin")
    stages = {"stages": STAGES, "init_from": tmp_path / "origin"}
    changes = {"model.variant": "vit_test2", "model.tune": "lora", **stages}
    machine.finish(tmp_path / "untouched", changes=changes)
    assert kill_once(machine, tmp_path / "killed", random.Random(0), while_saving=True, changes=changes)
    machine.finish(tmp_path / "killed", changes=changes)
    assert_same_run(tmp_path / "killed", tmp_path / "untouched")


# ---- a head on kept features


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "origin"
    write_run(folder)
    return folder


@pytest.fixture(scope="module")
def untouched(origin, tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("kept")
    common_machine(folder / "cache").finish(folder / "run", changes=HEAD | {"init_from": origin})
    return folder / "run"


@pytest.mark.parametrize("moment", ["features", *STAGES])
def test_a_killed_head_on_kept_features_ends_as_if_nothing_had_happened(origin, untouched, tmp_path, moment):
    """Killed once it has kept its first features, or while it saves in a stage; its cache is its own."""
    own, workdir, changes = common_machine(tmp_path / "cache"), tmp_path / "killed", HEAD | {"init_from": origin}
    started = own.start(workdir, changes=changes)
    try:
        if moment == "features":
            assert started.until(started.says("computed features of")), started.output()
        else:
            assert started.until(started.says(f"{moment}: step 1 began after")), started.output()
            assert started.until(lambda: sealed(workdir / moment) and saving(workdir / moment)), started.output()
        started.send(signal.SIGKILL)
    finally:
        started.kill()
    stage = moment if moment in STAGES else STAGES[0]
    assert not (workdir / stage / "DONE").exists()
    said = own.finish(workdir, changes=changes)
    assert (f"{stage}: continues from step" in said) == (moment in STAGES)
    assert_same_run(workdir, untouched)
