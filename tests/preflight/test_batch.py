"""Counts of images without opening data, and batches that a slice can hold."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from semivit_jax.config import ConfigError
from semivit_jax.data.dataset import open_task
from semivit_jax.data.pipeline import train_batches
from semivit_jax.data.splits import choose_split
from semivit_jax.preflight.batch import GivenCounts, image_counts, with_legal_batch
from semivit_jax.recipes.planning import make_plan
from semivit_jax.training.describe import describe_batch
from semivit_jax.training.sharding import make_mesh
from tests.configs import counts_of, small_config, small_plan

NOTHING = GivenCounts(images=0, labeled=0, classes=0)
IMAGENET = counts_of(1_281_167, 12_811, 1_268_356, 1_000)


def test_the_published_lists_are_counted_without_being_there():
    listed = {"data.labels_per_class": 0, "data.label_list": "nowhere/1percent.txt", "data.dataset": "imagenet2012"}
    assert image_counts(small_config(**listed), NOTHING) == IMAGENET


def test_a_list_that_is_there_is_counted(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("a.jpg\nb.jpg\n\n")
    config = small_config(**{"data.labels_per_class": 0, "data.label_list": str(path)})
    assert image_counts(config, NOTHING).labeled == 2


def test_digits_counts_agree_with_the_data(tmp_path):
    config = small_config(**{"data.data_dir": str(tmp_path), "data.validation_share": 0.1})
    split = open_task(config, workdir=None, label_free=("mae",)).split
    found = image_counts(config, NOTHING)
    assert (found.labeled, len(found.per_class)) == (len(split.labeled), 10)
    assert abs(found.training - len(split.training)) <= 10  # whole images per class


def test_an_unknown_data_set_asks_for_its_size():
    config = small_config(**{"data.dataset": "food101"})
    with pytest.raises(ConfigError, match=r"food101.*--images=N.*unless all, or `label_fraction` of them, are labeled"):
        image_counts(config, NOTHING)
    assert image_counts(config, GivenCounts(75_750, 0, 101)) == counts_of(75_750, 404, 75_346, 101)


def test_an_own_folder_keeps_back_a_share_of_its_known_labels():
    """As the split of a real folder does: 60 of 120 images in three classes, 60 whose class nobody knows."""
    values = {"data.dataset": "own_folder", "data.labels_per_class": 0, "data.validation_share": 0.2}
    values["data.eval_split"] = ""
    labels = np.repeat([0, 1, 2, -1], [20, 20, 20, 60])
    split = choose_split(labels, label_fraction=1.0, validation_share=0.2, seed=0, class_names="abc")
    found = image_counts(small_config(**values), GivenCounts(images=120, labeled=60, classes=3))
    assert found == counts_of(108, 48, 60, 3)
    assert (len(split.training), len(split.labeled), len(split.unlabeled)) == (108, 48, 60)


def test_an_own_folder_with_evaluation_images_keeps_nothing_back():
    values = {"data.dataset": "own_folder", "data.labels_per_class": 0, "data.validation_share": 0.2}
    found = image_counts(small_config(**values), GivenCounts(images=120, labeled=60, classes=3))
    assert found == counts_of(120, 60, 60, 3)


def test_more_labels_than_images_is_refused():
    with pytest.raises(ConfigError, match="9,999 labeled images of 1437"):
        image_counts(small_config(), GivenCounts(0, 9999, 0))


def test_a_batch_that_fits_stays():
    config = small_config(**{"semi.batch_size": 64})
    assert with_legal_batch(config, "semi", 8) == (config, ())


def test_a_small_batch_grows_to_the_smallest_legal_one_and_lr_follows():
    config = small_config(**{"semi.batch_size": 64, "semi.mixup_group_size": 2, "semi.base_lr": 5e-3})
    legal, changed = with_legal_batch(config, "semi", 256)
    plan = make_plan(legal, "semi", IMAGENET, num_devices=256, stored_group_size=None)
    assert (plan.batch_size, plan.group_size, plan.peak_lr) == (512, 2, pytest.approx(5e-3 * 512 / 256))
    (text,) = changed
    assert "512 labeled images instead of 64" in text
    assert "lr by the same rule" in text
    smaller = legal.with_stage("semi", dataclasses.replace(legal.stage("semi"), batch_size=512 - 2))
    with pytest.raises(ConfigError, match="nearest legal batches on 256 devices: 512"):
        make_plan(smaller, "semi", IMAGENET, num_devices=256, stored_group_size=None)


def test_without_mixing_one_image_per_device_is_enough():
    config = small_config(**{"finetune.batch_size": 128, "finetune.labeled_mixup": False})
    legal, _ = with_legal_batch(config, "finetune", 256)
    assert legal.stage("finetune").batch_size == 256


@pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
def test_the_described_batch_is_the_one_the_pipeline_makes(stage, tmp_path):
    config = small_config(**{"data.data_dir": str(tmp_path)})
    plan = small_plan(stage, batch_size=8, accum=2)
    task = open_task(config, workdir=None, label_free=("mae",))
    batches = train_batches(task, config.data, plan, seed=0, position=0, process_index=0, process_count=1)
    real = jax.tree.map(lambda x: (x.shape, str(x.dtype)), next(batches))
    batches.close()
    mesh: Mesh = make_mesh(1, jax.devices()[:1])
    described = jax.tree.map(lambda x: (x.shape, str(x.dtype)), describe_batch(config, plan, mesh))
    assert described == real
