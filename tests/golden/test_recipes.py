"""Every published recipe, value by value, against the recorded commands (data/recipes.json)."""

import dataclasses
import importlib
import json
import os
from pathlib import Path

import pytest

from configs import imagenet_finetune, imagenet_mae, imagenet_semi
from semivit_jax.config import Config, flatten
from semivit_jax.recipes import check
from semivit_jax.recipes.planning import make_plan
from tests.configs import counts_of
from tests.golden.recipe_accounts import (
    ACCOUNTS,
    MAE_ACCOUNTS,
    NUM_CLASSES,
    NUM_LABELED,
    NUM_TRAIN,
    VARIANTS,
    Account,
    Carried,
    config_arguments,
    config_file,
)

RECORDED = Path(__file__).parent / "data" / "recipes.json"
PUBLISHED = json.loads(RECORDED.read_text())
RECIPES = [pytest.param(r, id=r["name"]) for r in PUBLISHED["recipes"]]

# Published accuracies without a command -> (config file, arguments) of ours.
WITHOUT_COMMAND = {
    "vit_base_patch16_finetune_100p": (imagenet_finetune, "model=vit_b16,labels=100pct"),
    "vit_large_patch16_finetune_100p": (imagenet_finetune, "model=vit_l16,labels=100pct"),
    "vit_huge_patch14_finetune_100p": (imagenet_finetune, "model=vit_h14,labels=100pct"),
    "vit_small_finetune_scratch_10p": (imagenet_finetune, "model=vit_s16,labels=10pct,init=scratch"),
    "vit_small_semi_scratch_10p": (imagenet_semi, "model=vit_s16,labels=10pct,init=scratch"),
    "convnext_small_supervised_scratch_10p": (imagenet_finetune, "model=convnext_small,labels=10pct,init=scratch"),
    "convnext_small_semi_scratch_10p": (imagenet_semi, "model=convnext_small,labels=10pct,init=scratch"),
}


def recipe_config(recorded) -> Config:
    module = importlib.import_module(f"configs.{config_file(recorded)}")
    return check.check(module.get_config(config_arguments(recorded)))


def recorded_values(recorded):
    """{account key: value}: derived keys as they are, those of the argument parser with '--'."""
    derived = {k: v for k, v in recorded.items() if k != "argparse_all"}
    return derived | {f"--{k}": v for k, v in recorded["argparse_all"].items()}


def carried_values(config: Config, stage: str, *, num_devices: int, num_labeled: int):
    """The flattened config, its own stage also as 'stage.', and the plan as 'plan.'."""
    counts = counts_of(NUM_TRAIN, num_labeled, NUM_TRAIN - num_labeled, NUM_CLASSES)
    plan = make_plan(config, stage, counts, num_devices=num_devices, stored_group_size=None)
    assert plan.deviations == (), "the published devices must run the recipe as it is"
    flat = flatten(config)
    own = {f"stage.{k.partition('.')[2]}": v for k, v in flat.items() if k.startswith(f"{stage}.")}
    derived = dataclasses.asdict(plan) | {
        "unlabeled_batch": plan.batch_size * plan.unlabeled_ratio,
        "unlabeled_per_device": plan.micro_batch * plan.unlabeled_ratio // num_devices,
        "epoch_images": {"finetune": num_labeled, "semi": NUM_TRAIN - num_labeled, "mae": NUM_TRAIN}[stage],
    }
    return flat | own | {f"plan.{k}": v for k, v in derived.items()}


def compare(recorded, values, accounts: dict[str, Account], carried):
    """Lines for every recorded value that the config does not hold."""
    wrong = []
    for key, value in values.items():
        account = accounts[key]
        if isinstance(account, Carried) and account.where(recorded):
            wanted = account.becomes(value, recorded)
            if carried[account.key] != (pytest.approx(wanted) if isinstance(wanted, float) else wanted):
                wrong.append(f"{key} {value!r}: {account.key} should be {wanted!r}, is {carried[account.key]!r}")
    return wrong


@pytest.mark.parametrize("recorded", RECIPES)
def test_the_config_holds_every_recorded_value(recorded):
    config = recipe_config(recorded)
    carried = carried_values(
        config,
        config.stages[-1],
        num_devices=recorded["n_gpus"],
        num_labeled=NUM_LABELED[recorded["label_percent"]],
    )
    assert compare(recorded, recorded_values(recorded), ACCOUNTS, carried) == []
    assert config.log.origin == "published"


@pytest.mark.parametrize("recorded", RECIPES)
def test_every_recorded_key_is_accounted_for(recorded):
    assert set(recorded_values(recorded)) <= set(ACCOUNTS), "carry the new key, or say why it is not carried"


def test_accounts_name_only_recorded_keys_and_give_reasons():
    recorded = {k for r in PUBLISHED["recipes"] for k in recorded_values(r)}
    assert set(ACCOUNTS) == recorded
    assert {f"--{k}" for keys in PUBLISHED["parser_defaults"].values() for k in keys} <= set(ACCOUNTS)
    for key, account in ACCOUNTS.items():
        if isinstance(account, Carried):
            partial = not all(account.where(r) for r in PUBLISHED["recipes"] if key in recorded_values(r))
            assert partial == bool(account.elsewhere), key
        else:
            assert account.reason, key


def test_values_called_constant_are_constant():
    for key, account in ACCOUNTS.items():
        if not isinstance(account, Carried) and "all recipes" in account.reason:
            found = [recorded_values(r)[key] for r in PUBLISHED["recipes"] if key in recorded_values(r)]
            assert len({json.dumps(v) for v in found if v is not None}) <= 1, key


@pytest.mark.parametrize("recorded", [r for r in RECIPES if "semi" in r.id])
def test_semi_recipes_fine_tune_as_the_published_fine_tuning(recorded):
    semi, finetune = (m.get_config(config_arguments(recorded)) for m in (imagenet_semi, imagenet_finetune))
    for section in ("data", "model", "finetune", "init_from"):
        assert semi[section] == finetune[section], section


@pytest.mark.parametrize("model", PUBLISHED["mae_pretraining"]["models"])
def test_mae_recipes_hold_every_recorded_value(model):
    recorded = PUBLISHED["mae_pretraining"]
    assert set(recorded) == set(MAE_ACCOUNTS)
    variant = VARIANTS[model.removeprefix("mae_")]
    config = check.check(imagenet_mae.get_config(f"model={variant}"))
    devices = recorded["nodes"] * recorded["gpus_per_node"]
    carried = carried_values(config, "mae", num_devices=devices, num_labeled=NUM_TRAIN)
    values = {k: v for k, v in recorded.items() if k != "models"} | {"models": variant}
    assert compare(recorded, values, MAE_ACCOUNTS, carried) == []


def test_accuracies_without_a_command_have_a_recipe_of_ours():
    missing = PUBLISHED["missing"]["published_without_command"]
    assert missing.keys() == WITHOUT_COMMAND.keys()
    for name, accuracy in missing.items():
        module, arguments = WITHOUT_COMMAND[name]
        config = check.check(module.get_config(arguments))
        assert flatten(config)[f"{config.stages[-1]}.published_acc1"] == accuracy, name
        assert config.log.origin == "ours", name


def test_nothing_else_calls_itself_published():
    recorded = {config_arguments(r) for r in PUBLISHED["recipes"] if config_file(r) == "imagenet_semi"}
    assert recorded == {"model={},labels={},init={}".format(*key) for key in imagenet_semi.PUBLISHED}
    recorded = {config_arguments(r) for r in PUBLISHED["recipes"] if config_file(r) == "imagenet_finetune"}
    assert recorded == {"model={},labels={},init={}".format(*key) for key in imagenet_finetune.PUBLISHED}


def test_the_data_are_those_of_the_recipes():
    assert PUBLISHED["data"]["dataset_train_size"] == NUM_TRAIN
    assert PUBLISHED.keys() == {"recipes", "parser_defaults", "mae_pretraining", "missing", "data"}


def test_the_copy_is_the_recorded_file():
    shared = Path(os.environ.get("SEMIVIT_SHARED", Path(__file__).parents[3] / "shared"))
    original = shared / "reference" / "recipes.json"
    if not original.exists():
        pytest.skip(f"{original} is not there")
    assert json.loads(original.read_text()) == PUBLISHED
