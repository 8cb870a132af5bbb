"""A slice of CIFAR-10 as a user's own folder: three stages on real images, with a kill in the middle."""

import os
import signal
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.photos import SMALL
from tests.e2e.runs import ROOT, STAGES, assert_same_run

SHARED = Path(os.environ.get("SEMIVIT_SHARED", ROOT.parent / "shared"))
ARCHIVE = SHARED / "data" / "cifar10_jpeg.tar.xz"
PER_CLASS = {"train": 12, "test": 3}

pytestmark = [
    pytest.mark.skipif(not ARCHIVE.exists(), reason=f"CIFAR-10 as JPEG files is not in {ARCHIVE}"),
    pytest.mark.slow,
    pytest.mark.xdist_group("cifar10"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The first images of every class, as train/CLASS/*.jpg and test/CLASS/*.jpg."""
    root, taken = tmp_path_factory.mktemp("cifar10"), Counter()
    with tarfile.open(ARCHIVE, "r|xz") as archive:  # as a stream: going back would decompress it again
        for member in archive:
            if not member.isfile():
                continue
            split, name, _ = member.name.split("/")
            if taken[split, name] < PER_CLASS[split]:
                taken[split, name] += 1
                archive.extract(member, root, filter="data")
    assert len(taken) == 20
    return root


@pytest.fixture(scope="module")
def recipe(photos):
    folder = {"data.dataset": "own_folder", "data.root": photos}
    return {
        "config": "cifar10:labels=40",
        "quick": SMALL,
        "changes": {**folder, "mae.batch_size": 32, "train.eval_every_epochs": 2.0},
    }


@pytest.fixture(scope="module")
def untouched_photos(machine, recipe, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "cifar10"
    return workdir, machine.finish(workdir, **recipe)


def test_three_stages(untouched_photos):
    workdir, printed = untouched_photos
    assert "40 labeled, 80 unlabeled, 0 validation and 30 evaluation images; 10 classes: airplane, " in printed
    assert all((workdir / stage / "DONE").exists() for stage in STAGES)


def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(machine, recipe, untouched_photos, tmp_path):
    workdir = tmp_path / "killed"
    started = machine.start(workdir, **recipe)
    try:
        sealed = started.until(lambda: any(workdir.glob("finetune/checkpoints/*/MANIFEST.json")))
        assert sealed, started.output()
        started.send(signal.SIGKILL)
    finally:
        started.kill()
    assert not (workdir / "finetune" / "DONE").exists()
    machine.finish(workdir, **recipe)
    assert_same_run(workdir, untouched_photos[0])
