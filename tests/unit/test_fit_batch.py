"""Few images: the batch is lowered to the largest legal one that they fill, aloud, and kept by a restart."""

import dataclasses
import json

import pytest

from configs import own_folder
from semivit_jax.config import ConfigError, to_dict
from semivit_jax.recipes import check, stored
from semivit_jax.recipes.planning import fit_batch, make_plan
from semivit_jax.training import setup
from semivit_jax.training.setup import Run, plan_stage
from semivit_jax.training.sharding import make_mesh
from tests.configs import counts_of, small_config
from tests.serve.runs import digits

STAGES = ("mae", "finetune", "semi")


def own(**changes):
    """With labeled images that mix in groups, as the published recipes have it."""
    raw = own_folder.get_config()
    raw.update_from_flattened_dict({"finetune.labeled_mixup": True} | changes)
    return check.check(raw)


def lowered(stage, *, train=0, labeled=0, unlabeled=0, devices=1, stored=None, **changes):
    """(the plan, what was said) with few images of one stage's main stream."""
    counts, config = counts_of(train, labeled, unlabeled, 3), own(**changes)
    config, said = fit_batch(config, stage, counts, num_devices=devices, stored=stored)
    return make_plan(config, stage, counts, num_devices=devices, stored_group_size=None), said


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("photos", [40, 60, 97, 131, 260, 300, 511])
def test_a_few_photos_with_a_few_labels_simply_run(photos, devices):
    config, counts = own(), counts_of(photos, photos // 2, photos - photos // 2, 3)
    for stage in STAGES:
        rows = {"mae": photos, "finetune": counts.labeled, "semi": counts.unlabeled // 5}[stage]
        if stage != "mae" and rows < 2 * devices:
            continue  # two images must mix on every device
        section = config.stage(stage)
        if rows >= section.batch_size and section.batch_size % (2 * devices):
            continue  # nothing is too few here, but three devices do not share 32 images
        fitted, said = fit_batch(config, stage, counts, num_devices=devices, stored=None)
        plan = make_plan(fitted, stage, counts, num_devices=devices, stored_group_size=None)
        assert plan.steps_per_epoch >= 1
        assert plan.batch_size <= min(rows, section.batch_size)
        assert bool(said) == (rows < section.batch_size)
        if said and rows >= 8 * devices:  # nothing is given away but what whole groups and micro-steps need
            assert plan.batch_size > rows - plan.accum * devices * max(plan.group_size, 1)


@pytest.mark.parametrize(
    ("stage", "images", "devices", "batch", "group"),
    [
        ("mae", {"train": 260}, 1, 258, 1),  # six micro-steps of 43, since 48 images fit the device
        ("mae", {"train": 257}, 1, 252, 1),  # a prime number would be 257 micro-steps of one image
        ("finetune", {"labeled": 28}, 1, 24, 8),
        ("finetune", {"labeled": 28}, 2, 16, 8),
        ("finetune", {"labeled": 28}, 4, 16, 4),  # no share of 8
        ("finetune", {"labeled": 7}, 1, 4, 4),
        ("finetune", {"labeled": 3}, 1, 2, 2),
        ("semi", {"labeled": 160, "unlabeled": 79}, 1, 8, 8),
        ("semi", {"labeled": 160, "unlabeled": 39}, 1, 4, 4),
    ],
)
def test_the_largest_batch_of_whole_groups(stage, images, devices, batch, group):
    plan, said = lowered(stage, **images, devices=devices)
    assert (plan.batch_size, plan.group_size) == (batch, group)
    assert len(said) == 1


def test_what_is_lowered_is_said_with_the_learning_rate():
    plan, (said,) = lowered("finetune", labeled=28)
    assert said == (
        "batch of 24 labeled images instead of 32, which the 28 labeled images cannot fill; peak lr 9.38e-05 instead "
        "of 0.000125, as config.finetune.lr_rule says"
    )
    assert plan.peak_lr == pytest.approx(1e-3 * 24 / 256)
    _, (said,) = lowered("finetune", labeled=28, **{"finetune.lr_rule": "absolute"})
    assert said.endswith("peak lr unchanged, as it is absolute")


def test_enough_images_lower_nothing():
    for stage in STAGES:
        plan, said = lowered(stage, train=512, labeled=32, unlabeled=80)
        assert (plan.batch_size, said) == (own().stage(stage).batch_size, ())


def test_published_recipes_are_refused_instead():
    config, counts = small_config(), counts_of(1437, 30, 1407, 10)
    assert fit_batch(config, "finetune", counts, num_devices=1, stored=None) == (config, ())
    with pytest.raises(ConfigError, match=r"--config.finetune.batch_size=30 is the largest on 1 device"):
        make_plan(config, "finetune", counts, num_devices=1, stored_group_size=None)


@pytest.mark.parametrize(
    ("stage", "images", "devices", "words"),
    [
        ("finetune", {"labeled": 12}, 8, ("12 labeled images", "smallest update on 8 devices, 16 images", "6 devices")),
        ("finetune", {"labeled": 1}, 1, ("the 1 labeled image cannot fill", "on 1 device, 2 images", "must be more")),
        ("semi", {"labeled": 9}, 1, ("0 unlabeled images", "10 images", "\"('mae', 'finetune')\"", "unlabeled_ratio")),
    ],
)
def test_where_no_batch_is_legal_it_says_what_would_be(stage, images, devices, words):
    with pytest.raises(ConfigError) as error:
        lowered(stage, **images, devices=devices)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_restart_keeps_the_batch_it_began_with(tmp_path):
    """On other devices another batch would be the largest one, and no longer the same run."""
    config = small_config(**{"finetune.batch_size": 64, "train.lower_batch_to_fit": True})
    run = Run(config, tmp_path, digits(), make_mesh(1), stop=None, book=None)  # pyright: ignore[reportArgumentType]
    plan = plan_stage(run, "finetune")
    assert (plan.batch_size, plan.deviations[0][:52]) == (40, "batch of 40 labeled images instead of 64, which the ")
    (tmp_path / "finetune").mkdir()
    setup.keep_plan(run, plan)
    path = tmp_path / "finetune" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"batch_size": 20}))
    again = plan_stage(run, "finetune")
    assert again.batch_size == 20
    assert "batch of 20 labeled images instead of 64" in again.deviations[0]


def test_stored_configs_of_earlier_versions_refuse_as_they_did():
    values = to_dict(dataclasses.replace(own(), stages=("finetune",)))
    del values["train"]["lower_batch_to_fit"]
    assert not stored.check_stored(values).train.lower_batch_to_fit
