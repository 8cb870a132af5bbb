"""Plans: groups, accumulation, learning rates, and errors that name what would work."""

import dataclasses

import jax
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.plan import Stream, equal_shares, to_dict
from semivit_jax.recipes.planning import fit_batch, make_plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.stage import make_optimizer
from tests.configs import counts_of, small_config

COUNTS = counts_of(1000, 100, 900, classes=10)


def plan(stage="semi", *, devices=1, stored=None, **changes):
    limit = changes.pop("max_images_per_device", 0)
    section = {f"{stage}.{k}": v for k, v in {"warmup_epochs": 0.0, **changes}.items()}
    config = small_config(**section, **{"train.max_images_per_device": limit})
    return make_plan(config, stage, COUNTS, num_devices=devices, stored_group_size=stored)


def test_epochs_are_passes_over_the_main_stream():
    found = plan(batch_size=10, unlabeled_ratio=6, epochs=4.0)
    assert (found.micro_per_epoch, found.steps_per_epoch, found.total_steps) == (15, 15, 60)  # 900 // 60
    assert plan("mae", batch_size=64, epochs=2.0).steps_per_epoch == 15  # 1000 // 64
    found = plan("finetune", batch_size=20, accum=2, epochs=2.0)
    assert (found.micro_per_epoch, found.steps_per_epoch, found.total_steps) == (10, 5, 10)
    assert (found.micro_batch, found.groups) == (10, 1)


def test_left_over_micro_batches_make_no_update():
    found = plan("finetune", batch_size=60, accum=3)
    assert (found.micro_per_epoch, found.steps_per_epoch) == (5, 1)  # 100 images, 20 a micro-step, 3 an update


def test_a_floor_of_updates_stretches_epochs_and_warm_up_alike():
    found = plan("finetune", batch_size=20, epochs=4.0, warmup_epochs=1.0, min_updates=50)
    assert (found.steps_per_epoch, found.total_steps, found.stretch) == (5, 50, 2.5)
    assert (found.updates(1.0), found.updates(4.0)) == (12.5, 50)
    assert found.deviations == ("50 updates instead of 20 (4 epochs of 5), as config.finetune.min_updates says",)


@pytest.mark.parametrize("floor", [0, 1, 20])
def test_a_floor_that_is_reached_changes_nothing(floor):
    assert plan("finetune", batch_size=20, epochs=4.0, min_updates=floor) == plan("finetune", batch_size=20, epochs=4.0)


def test_the_schedule_of_a_stretched_stage_ends_with_it():
    """The same learning rates at the same shares of warm-up and of the rest."""
    short, long = ({"epochs": 4.0, "warmup_epochs": 1.0, "min_updates": floor} for floor in (0, 200))
    rates = []
    for changes in (short, long):
        config = small_config(**{f"finetune.{k}": v for k, v in changes.items()}, **{"finetune.batch_size": 20})
        found = make_plan(config, "finetune", COUNTS, num_devices=1, stored_group_size=None)
        optimizer = make_optimizer(
            config.stage("finetune"), found, weight_decays=((".", 0.0),), lr_scales=((".", 1.0),)
        )
        rates.append(optimizer.lr(jax.numpy.arange(found.total_steps)))
    assert (len(rates[0]), len(rates[1])) == (20, 200)
    np.testing.assert_allclose(rates[1][::10], rates[0], rtol=1e-6, atol=1e-9)


def test_peak_lr_scales_with_the_labeled_batch():
    assert plan(batch_size=40, base_lr=1e-3, unlabeled_ratio=3).peak_lr == pytest.approx(1e-3 * 40 / 256)
    assert plan(batch_size=40, base_lr=1e-3, lr_rule="absolute").peak_lr == 1e-3
    assert plan(batch_size=40, accum=2, base_lr=1e-3).peak_lr == pytest.approx(1e-3 * 40 / 256)


@pytest.mark.parametrize(
    ("devices", "wanted", "group"), [(1, 8, 8), (2, 8, 8), (4, 8, 4), (8, 8, 2), (2, 16, 8), (1, 12, 4), (2, 12, 4)]
)
def test_the_largest_even_divisor_that_fits_becomes_the_group(devices, wanted, group):
    found = plan(devices=devices, batch_size=16, mixup_group_size=wanted)
    assert (found.group_size, found.groups, found.accum) == (group, 16 // group, 1)
    reported = [d for d in found.deviations if f"groups of {group} labeled images instead of {wanted}" in d]
    assert len(reported) == (group != wanted)


def test_an_odd_share_has_no_group():
    with pytest.raises(ConfigError, match=r"batch_size 12 .* over 4 devices with at least 2 images"):
        plan(devices=4, batch_size=12, mixup_group_size=6)


def test_a_restart_keeps_the_stored_group():
    found = plan(devices=1, stored=2, batch_size=16, mixup_group_size=8)
    assert (found.group_size, found.groups) == (2, 8)
    with pytest.raises(ConfigError, match="batch_size 16"):
        plan(devices=2, stored=16, batch_size=16, mixup_group_size=16)


def test_a_restart_that_cannot_keep_its_group_is_told_where_it_can():
    """The device counts on which a new run would go are no advice: it would have another group there."""
    message = r"batch_size 24 \(accum 1\) and mixing groups of 8, with which this run began.* 2 devices.*: \[1, 3\]$"
    with pytest.raises(ConfigError, match=message):
        plan(devices=2, stored=8, batch_size=24, mixup_group_size=16)
    assert plan(devices=3, stored=8, batch_size=24, mixup_group_size=16).group_size == 8


def test_nothing_mixes_in_mae_and_without_labeled_mixup():
    assert plan("mae", batch_size=64).group_size == 1
    assert plan("finetune", batch_size=40, labeled_mixup=False).group_size == 1
    assert plan(batch_size=40, mixup_group_size=10, labeled_mixup=False).group_size == 10  # pseudo labels still do


def test_a_limit_of_images_per_device_accumulates():
    found = plan(batch_size=16, unlabeled_ratio=5, mixup_group_size=4, max_images_per_device=50)
    assert (found.accum, found.recipe_accum, found.group_size) == (2, 1, 4)  # 16 rows of 6 images in 2 x 48
    (deviation,) = found.deviations
    assert "2 micro-steps per update instead of 1" in deviation
    assert "at most 50 images per device" in deviation
    free = plan(batch_size=16, unlabeled_ratio=5, mixup_group_size=4)
    same = ("steps_per_epoch", "micro_per_epoch", "total_steps", "peak_lr", "batch_size")
    assert [getattr(found, k) for k in same] == [getattr(free, k) for k in same]
    wide = plan(batch_size=16, unlabeled_ratio=5, mixup_group_size=4, max_images_per_device=50, devices=2)
    assert wide.accum == 1


def test_a_batch_that_devices_do_not_divide_names_legal_ones():
    with pytest.raises(ConfigError) as error:
        plan(devices=3, batch_size=16)
    message = str(error.value)
    for part in ("config.semi.batch_size 16", "3 devices", "at least 2 images", "12 or 18", "[1, 2, 4, 8]"):
        assert part in message
    for batch_size in (12, 18):
        assert plan(devices=3, batch_size=batch_size).batch_size == batch_size


def test_a_limit_that_cannot_be_met_is_named():
    with pytest.raises(ConfigError, match=r"at most 5 // 6 \(config.train.max_images_per_device\)"):
        plan(batch_size=16, unlabeled_ratio=5, max_images_per_device=5)


def test_too_few_images_for_one_update_are_named_with_the_largest_batch():
    with pytest.raises(ConfigError) as error:
        plan("finetune", batch_size=128, mixup_group_size=8)
    assert str(error.value) == (
        "config.finetune: the 100 labeled images cannot fill one update of 128 images; --config.finetune.batch_size=96 "
        "is the largest on 1 device, --config.train.lower_batch_to_fit=True takes it"
    )
    assert plan("finetune", batch_size=96, mixup_group_size=8).group_size == 8
    with pytest.raises(ConfigError, match=r"900 unlabeled images .* 1,280 images \(256 labeled images, 5"):
        plan("semi", batch_size=256)


def test_evaluation_comes_at_least_every_so_many_steps():
    config = small_config(**{"train.eval_every_epochs": 0.001})
    assert make_plan(config, "semi", COUNTS, num_devices=1, stored_group_size=None).eval_every_steps == 1


def test_todays_streams():
    """Their names key orders and draws: others would be other runs."""
    streams = {f"{name}/{one.name}": one for name in STAGES for one in plan(name, batch_size=64).streams}
    assert list(streams) == ["mae/training", "finetune/labeled", "semi/labeled", "semi/unlabeled"]
    assert [one.images for one in streams.values()] == ["training", "labeled", "labeled", "unlabeled"]
    assert [one.per_row for one in streams.values()] == [1, 1, 1, 5]
    assert [plan(name, batch_size=64).unlabeled_ratio for name in STAGES] == [0, 0, 5]


def with_streams(monkeypatch, *streams):
    """The semi stage as one with other streams."""
    spec = dataclasses.replace(STAGES["semi"], streams=lambda section: streams)
    monkeypatch.setitem(STAGES, "semi", spec)


def test_every_stream_counts_for_devices_and_the_main_one_for_epochs(monkeypatch):
    views = (("image", "labeled"),)
    with_streams(
        monkeypatch,
        Stream("labeled", "labeled", views, sets_epoch=False),
        Stream("all", "training", views, per_row=3, label=""),
        Stream("again", "labeled", views, per_row=2, sets_epoch=False),
    )
    found = plan(batch_size=20, mixup_group_size=10, epochs=4.0, max_images_per_device=60)
    assert (found.unlabeled_ratio, found.accum) == (5, 2)  # 10 rows of 6 images fit a device
    assert (found.steps_per_epoch, found.total_steps) == (1000 // 60, 4 * (1000 // 60))
    assert found.label == "class"


def test_advice_names_the_key_of_the_main_stream(monkeypatch):
    main = Stream("some", "labeled", (("image", "labeled"),), per_row=4, ratio_key="images_per_row")
    with_streams(monkeypatch, Stream("all", "training", main.views, sets_epoch=False), main)
    with pytest.raises(ConfigError, match=r"100 labeled images .* 160 images \(40 training images, 4 labeled ones for"):
        plan(batch_size=40)
    config = small_config(**{"semi.batch_size": 40, "train.lower_batch_to_fit": True})
    _, (said,) = fit_batch(config, "semi", COUNTS, num_devices=1, stored=None)
    assert said.startswith("batch of 20 images instead of 40, which the 100 labeled images cannot fill")
    with pytest.raises(ConfigError, match=r"lower config.semi.images_per_row, now 4, or leave the stage out"):
        plan(batch_size=40, devices=32)


def test_what_is_kept_of_a_plan_is_numbers():
    """plan.json and checkpoints hold these keys (docs/workdir.md)."""
    assert list(to_dict(plan(batch_size=40))) == [
        "stage", "num_devices", "num_classes", "batch_size", "unlabeled_ratio", "recipe_accum", "accum", "group_size",
        "micro_per_epoch", "steps_per_epoch", "stretch", "total_steps", "eval_every_steps", "peak_lr", "deviations",
    ]  # fmt: skip


def test_equal_shares():
    assert equal_shares(8, 3) == (3, 3, 2)
    assert equal_shares(2, 3) == (1, 1, 0)
    assert equal_shares(0, 0) == ()
