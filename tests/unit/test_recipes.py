"""Recipes: arguments, what a run of each would do, and how their batches adapt to the devices at hand."""

import dataclasses
import importlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from configs import imagenet_semi, own_folder
from semivit_jax.config import ConfigError, flatten
from semivit_jax.recipes import check
from semivit_jax.recipes.keys import differences
from semivit_jax.recipes.planning import make_plan
from tests.golden.recipes import RECIPES, counts, load

ALL = [pytest.param(file, arguments, id=f"{file}:{arguments}") for file, rows in RECIPES.items() for arguments in rows]
IMAGENET = [p for p in ALL if p.id.startswith("imagenet")]


def plan_on(config, stage, num_devices):
    return make_plan(config, stage, counts(config), num_devices=num_devices, stored_group_size=None)


def images_per_device(plan):
    """Images of one student pass on one device."""
    return plan.micro_batch * (1 + plan.unlabeled_ratio) / plan.num_devices


@pytest.mark.parametrize(("file", "arguments"), IMAGENET)
@pytest.mark.parametrize("num_devices", [1, 8, 64])
def test_batches_adapt_without_changing_updates_or_learning_rate(file, arguments, num_devices):
    config = load(file, arguments)
    for stage in config.stages:
        section = config.stage(stage)
        if section.batch_size < 2 * num_devices:  # two images must mix on every device
            with pytest.raises(ConfigError, match=f"nearest legal batches on {num_devices} devices: "):
                plan_on(config, stage, num_devices)
            continue
        plan = plan_on(config, stage, num_devices)
        alone = plan_on(config, stage, 1)
        assert (plan.batch_size, plan.total_steps, plan.peak_lr) == (
            section.batch_size,
            alone.total_steps,
            alone.peak_lr,
        )
        assert images_per_device(plan) <= config.train.max_images_per_device
        adapted = plan.accum != section.accum or plan.group_size not in (1, getattr(section, "mixup_group_size", 1))
        assert bool(plan.deviations) == adapted


@pytest.mark.parametrize(("file", "arguments"), IMAGENET)
@pytest.mark.parametrize("limit", [12, 48])
def test_less_memory_costs_micro_steps_only(file, arguments, limit):
    config = load(file, arguments)
    small = dataclasses.replace(config, train=dataclasses.replace(config.train, max_images_per_device=limit))
    for stage in config.stages:
        plan, roomy = plan_on(small, stage, 1), plan_on(config, stage, 1)
        assert images_per_device(plan) <= limit
        assert plan.accum >= roomy.accum
        assert (plan.total_steps, plan.peak_lr, plan.recipe_accum) == (
            roomy.total_steps,
            roomy.peak_lr,
            roomy.recipe_accum,
        )
        adapted = f"{plan.accum} micro-steps per update instead of {plan.recipe_accum}"
        said = f"{adapted} (at most {limit} images per device)"
        assert (said in plan.deviations) == (plan.accum != plan.recipe_accum)


@pytest.mark.parametrize(("file", "arguments"), ALL)
def test_every_stage_of_a_recipe_fits_one_device(file, arguments):
    config = load(file, arguments)
    for stage in config.stages:
        assert plan_on(config, stage, 1).total_steps > 0


@pytest.mark.parametrize(("file", "arguments"), ALL)
def test_log_names_the_recipe(file, arguments):
    recipe = load(file, arguments).log.recipe
    assert recipe.startswith(file)
    name, _, asked = recipe.partition(":")
    again = check.check(importlib.import_module(f"configs.{name}").get_config(asked))
    assert again.log.recipe == recipe


@pytest.mark.parametrize(
    ("file", "arguments", "message"),
    [
        ("imagenet_semi", "labels=100pct", "there is no recipe model=vit_b16,labels=100pct,init=mae"),
        ("imagenet_finetune", "model=convnext_tiny", "model=convnext_tiny,labels=10pct,init=scratch"),
        ("imagenet_mae", "model=convnext_tiny", "legal values are vit_b16, vit_l16, vit_h14"),
        ("imagenet_semi", "model", "is not known"),
        ("cifar10", "labels=41", "legal values are 40, 250, 4000"),
        ("transfer", "dataset=flowers", "legal values are food101"),
        ("transfer", "labels=5pct", "legal values are 1pct"),
        ("own_folder", "model=vit_h32", "legal values are vit_s16"),
    ],
)
def test_arguments_that_name_no_recipe_say_what_there_is(file, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(file, arguments)


def test_own_folder_pre_trains_unless_weights_are_given():
    assert own_folder.get_config("").stages == ("mae", "finetune", "semi")
    given = own_folder.get_config("init_from=hf://timm/vit_base_patch16_224.mae")
    assert given.stages == ("finetune", "semi")
    assert given.init_from == "hf://timm/vit_base_patch16_224.mae"


def test_cifar_variants_differ_in_what_they_name_only():
    paper = flatten(load("cifar10", "labels=40"))
    fixmatch = flatten(load("cifar10", "labels=40,teacher=student,pseudo_mixup=none"))
    label = "cifar10:labels=40,teacher={},pseudo_mixup={}"
    assert differences(paper, fixmatch) == [
        f"log.recipe: {label.format('ema', 'prob')!r} -> {label.format('student', 'none')!r}",
        "semi.pseudo_mixup: 'prob' -> 'none'",
        "semi.teacher: 'ema' -> 'student'",
    ]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections on Python 3.11
def test_the_command_line_starts_the_second_stage_alone(monkeypatch):
    argv = [
        "train",
        f"--config={imagenet_semi.__file__}:model=vit_l16,labels=10pct",
        "--config.stages=('semi',)",
        "--config.init_from=runs/finetune",
        "--config.semi.pseudo_mixup=mixup",
    ]
    monkeypatch.setattr(sys, "argv", argv)  # where config_flags looks for overrides
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    values(argv)
    config = check.check(values["config"].value)
    assert config.stages == ("semi",)
    assert config.init_from == "runs/finetune"
    assert config.stage("semi").pseudo_mixup == "mixup"
    assert config.model.variant == "vit_l16"


@pytest.mark.parametrize(("variant", "posemb"), [("vit_b16", "none"), ("convnext_tiny", "learned")])
def test_only_convnext_has_no_position_embedding(variant, posemb):
    raw = importlib.import_module("configs.imagenet_finetune").get_config("labels=1pct")
    raw.model.update(variant=variant, posemb=posemb)
    with pytest.raises(ConfigError, match=r"config\.model\.posemb"):
        check.check(raw)
