"""Own folders as a whole task: split, hashes, batches, and runs that cannot begin or go on."""

import dataclasses
import os
import pwd
import tempfile

import numpy as np
import pytest

from configs import digits as digits_config
from semivit_jax.config import ConfigError
from semivit_jax.data import pipeline, splits
from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.dataset import describe, open_split, open_task
from semivit_jax.data.rows import read_image
from semivit_jax.data.sources import kept
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.recipes.check import check
from semivit_jax.training import run
from tests.configs import small_config, small_plan
from tests.own_folder.photos import put


def config_for(root, **data):
    config = check(digits_config.get_config())
    wanted = dict(dataset="own_folder", root=str(root), train_split="", eval_split="", labels_per_class=0,
                  validation_share=0.25, max_bad_share=0.05)  # fmt: skip
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **(wanted | data)))


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


def test_task_of_a_folder(root, tmp_path):
    task = open_task(config_for(root), workdir=tmp_path / "run", label_free=("mae",))
    assert (len(task.split.labeled), len(task.split.unlabeled), len(task.eval)) == (7, 4, 2)
    np.testing.assert_array_equal(task.eval.labels, task.train.labels[task.split.validation])
    sizes = "7 labeled, 4 unlabeled and 2 validation images"  # which are the evaluation images as well
    assert describe(task) == f"{sizes}; 3 classes: ant, bee, cat"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["images.npz", "listing.json", "split.csv"]
    again = open_task(config_for(root), workdir=tmp_path / "run", label_free=("mae",))
    assert (again.split_hash, again.listing_hash) == (task.split_hash, task.listing_hash)
    with pytest.raises(SplitError, match="holds another split"):
        open_task(config_for(root, labels_per_class=1), workdir=tmp_path / "run", label_free=("mae",))


def test_a_run_is_not_continued_with_other_files(root, tmp_path):
    """One unlabeled image less moves no labeled one, and yet every draw of the unlabeled stream."""
    open_task(config_for(root), workdir=tmp_path / "run", label_free=("mae",))
    before = (tmp_path / "run" / "listing.json").read_bytes()
    (root / "unlabeled" / "x.png").rename(tmp_path / "x.png")
    with pytest.raises(
        DatasetError, match=r"begun with other files.*images: 1 removed \('unlabeled/x\.png'\)\. Put back"
    ):
        open_task(config_for(root), workdir=tmp_path / "run", label_free=("mae",))
    assert (tmp_path / "run" / "listing.json").read_bytes() == before
    (tmp_path / "x.png").rename(root / "unlabeled" / "x.png")
    open_task(config_for(root), workdir=tmp_path / "run", label_free=("mae",))


def test_a_user_without_a_home_is_served(root, tmp_path, monkeypatch, caplog):
    """A container's user whom its system does not know."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept._cache_without_home.cache_clear()
    for _ in range(2):
        assert len(open_task(config_for(root), workdir=None, label_free=("mae",)).train) == 13
    place = tmp_path / f"cache_of_user_{os.getuid()}"
    assert list((place / "semivit_jax").iterdir())
    told = [r.getMessage() for r in caplog.records if "no home" in r.getMessage()]
    assert told == [f"no home folder, so {place} serves as cache; set XDG_CACHE_HOME to a folder that stays"]


def test_train_and_test_sub_folders(root, tmp_path):
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both" / "train")
    put(tmp_path / "both" / "test" / "bee" / "t.png")
    task = open_task(
        config_for(tmp_path / "both", train_split="train", eval_split="test", validation_share=0.0),
        workdir=None,
        label_free=("mae",),
    )
    assert (len(task.train), len(task.eval)) == (13, 1)
    assert task.class_names[task.eval.labels[0]] == "bee"
    assert describe(task).startswith("9 labeled, 4 unlabeled, 0 validation and 1 evaluation image; 3 classes")


@pytest.fixture
def apart(root, tmp_path):
    """The folder as train/, beside val/ with two ants."""
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both" / "train")
    for number in range(2):
        put(tmp_path / "both" / "val" / "ant" / f"{number}.png", number)
    return tmp_path / "both"


def test_no_share_is_kept_back_where_evaluation_images_lie_apart(apart):
    """The recipe's share is a fifth, and the images kept back would serve nothing."""
    task = open_task(
        config_for(apart, train_split="train", eval_split="val", validation_share=0.25),
        workdir=None,
        label_free=("mae",),
    )
    assert (len(task.split.labeled), len(task.split.validation), len(task.eval)) == (9, 0, 2)


def test_a_run_that_kept_a_share_back_nevertheless_goes_on(apart, tmp_path, monkeypatch):
    config = config_for(apart, train_split="train", eval_split="val", validation_share=0.25)
    with monkeypatch.context() as earlier:
        earlier.setattr(splits, "validation_share", lambda data: data.validation_share)
        begun = open_task(config, workdir=tmp_path / "run", label_free=("mae",))
    assert len(begun.split.validation) == 2
    assert open_task(config, workdir=tmp_path / "run", label_free=("mae",)).split_hash == begun.split_hash


def test_too_few_labels_to_keep_any_back_are_refused(tmp_path):
    """A label per class: none can be spared, and the stages that evaluate would fail hours later."""
    for name in ("ant", "bee", "cat"):
        put(tmp_path / "plain" / name / "0.png")
        put(tmp_path / "plain" / "unlabeled" / f"{name}.png")
    config = config_for(tmp_path / "plain")
    with pytest.raises(DatasetError, match=r"^3 images have a label, too few .* = 0.25 .*label more .*data.eval_split"):
        open_task(config, workdir=tmp_path / "run", label_free=("mae",))
    assert not (tmp_path / "run").exists()
    assert len(open_task(dataclasses.replace(config, stages=("mae",)), workdir=None, label_free=("mae",)).eval) == 0
    put(tmp_path / "plain" / "ant" / "1.png")
    assert len(open_task(config, workdir=None, label_free=("mae",)).eval) == 1


def test_evaluation_images_without_a_label_are_refused(apart, caplog):
    config = config_for(apart, train_split="train", eval_split="val", validation_share=0.0)
    put(apart / "val" / "day" / "ant" / "2.png")
    assert len(open_task(config, workdir=None, label_free=("mae",)).eval) == 2
    assert "1 image of the evaluation split 'val' left out, without a label" in caplog.text
    (apart / "val" / "ant").rename(apart / "val" / "day" / "bee")
    message = r"none of the 3 images of the evaluation split 'val' has a label; .* val/CLASS .* 'day/ant/2.png' for one"
    with pytest.raises(DatasetError, match=message):
        open_task(config, workdir=None, label_free=("mae",))
    open_task(dataclasses.replace(config, stages=("mae",)), workdir=None, label_free=("mae",))


def test_a_split_that_is_not_there(root, tmp_path):
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both" / "train")
    put(tmp_path / "both" / "test" / "bee" / "t.png")
    put(tmp_path / "both" / "rest" / "u.png")
    config = config_for(tmp_path / "both", train_split="train", eval_split="test", validation_share=0.0)
    task = open_task(config, workdir=None, label_free=("mae",))
    message = r"both' has no split 'tset', .*; there are: test, train; roles in training: labeled, .*, train$"
    with pytest.raises(DatasetError, match=message):
        open_split(config, task, "tset")
    config = config_for(tmp_path / "both", train_split="trian", eval_split="test", validation_share=0.0)
    with pytest.raises(DatasetError, match=r"no split 'trian', .*; there are: test, train$"):
        open_task(config, workdir=None, label_free=("mae",))


def test_labels_are_needed_unless_only_mae_runs(root, tmp_path):
    put(tmp_path / "plain" / "a.png")
    config = config_for(tmp_path / "plain")
    with pytest.raises(DatasetError, match="no image has a label"):
        open_task(config, workdir=None, label_free=("mae",))
    task = open_task(dataclasses.replace(config, stages=("mae",)), workdir=None, label_free=("mae",))
    assert len(task.split.training) == 1


def test_one_class_is_refused(root, tmp_path):
    """What happens to a folder of nested photos when its labels are forgotten."""
    put(tmp_path / "plain" / "2022" / "a.png")
    put(tmp_path / "plain" / "2022" / "b.png")
    put(tmp_path / "plain" / "2023" / "trip" / "c.png")
    config = config_for(tmp_path / "plain")
    with pytest.raises(DatasetError, match=r"'2022'.*1 image lies deeper .*'2023/trip/c.png'.*config.data.labels"):
        open_task(config, workdir=None, label_free=("mae",))
    assert len(open_task(dataclasses.replace(config, stages=("mae",)), workdir=None, label_free=("mae",)).train) == 3
    (tmp_path / "plain" / "2022").rename(tmp_path / "plain" / "2023" / "more")
    with pytest.raises(DatasetError, match=r"no image has a label.*3 images lie deeper"):
        open_task(config, workdir=None, label_free=("mae",))


def test_files_that_vanish_while_training_are_bad_records(root, caplog):
    config = config_for(root, max_bad_share=0.5)
    task = open_task(config, workdir=None, label_free=("mae",))
    for name in task.train.names[:3]:
        (root / name).unlink()
    plan = small_plan("mae", batch_size=4)
    batches = pipeline.train_batches(task, config.data, plan, seed=0, position=0, process_index=0, process_count=1)
    for _ in range(10):
        next(batches)
    assert batches.bad_records > 0
    batches.close()
    (line,) = (r.getMessage() for r in caplog.records if repr(task.train.names[0]) in r.getMessage())
    assert line == f"passing over {task.train.names[0]!r}: cannot be read: No such file or directory"


def test_a_file_that_must_not_be_read_is_a_bad_record(root):
    task = open_task(config_for(root), workdir=None, label_free=("mae",))
    (root / task.train.names[0]).chmod(0)
    if os.access(root / task.train.names[0], os.R_OK):
        pytest.skip("this user, root, may read every file")
    found = read_image(task.train, 0, config_for(root).data, path="fast")
    assert found == BadRecord(0, "cannot be read: Permission denied")


@pytest.mark.parametrize(
    ("stage", "batch_size", "message"),
    [("mae", 12, "takes 12 training images .* only 11"), ("semi", 2, "takes 6 unlabeled images .* only 4")],
)
def test_a_set_smaller_than_a_batch_is_refused(root, stage, batch_size, message):
    task = open_task(config_for(root), workdir=None, label_free=("mae",))
    plan = small_plan(stage, batch_size=batch_size, unlabeled_ratio=3 if stage == "semi" else 0)
    with pytest.raises(ValueError, match=message):
        pipeline.train_batches(task, config_for(root).data, plan, seed=0, position=0, process_index=0, process_count=1)


def test_a_run_that_cannot_begin_leaves_its_workdir_free(root, tmp_path, monkeypatch):
    """The advice of the message is another batch size, which a claimed workdir would refuse."""
    values = {"dataset": "own_folder", "root": str(root), "train_split": "", "eval_split": "", "validation_share": 0.25}
    begun = []
    monkeypatch.setattr(run, "run_stage", lambda one, plan: begun.append(plan.stage))
    monkeypatch.setattr(run.summary, "summarise", lambda *_: {})
    monkeypatch.setattr(run.summary, "print_summary", lambda _: None)

    def start(batch_size, labels_per_class=0):
        changes = {f"data.{key}": value for key, value in values.items()}
        changes |= {"data.labels_per_class": labels_per_class, "train.compilation_cache": False}
        changes |= {"stages": ("finetune",), "finetune.batch_size": batch_size, "finetune.mixup_group_size": 2}
        run.train(small_config(**changes), tmp_path / "run")

    with pytest.raises(ConfigError, match=r"--config.finetune.batch_size=6 is the largest"):
        start(40)
    start(2, labels_per_class=1)
    assert begun == ["finetune"]
    (tmp_path / "run" / "DONE").unlink()
    with pytest.raises(ConfigError, match="another config"):
        start(2)
    assert (tmp_path / "run" / "config.json").exists()
