"""What `--config.KEY=VALUE` means beyond the value itself: stages, preprocessing, the recipe's label, typing errors."""

import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from semivit_jax import origin, workdir
from semivit_jax.config import Config, ConfigError, is_runtime
from semivit_jax.plan import Plan, recipe_group


def apply(raw: Any, values: Mapping[str, Any], folder: Path | None) -> list[str]:
    """Sets what follows from the overrides of a config.

    Args:
      raw: the config, changed in place.
      values: its overrides, by key without 'config.'.
      folder: the workdir; None without one.

    Returns:
      What else was changed, for people.
    """
    notes = leave_out_pre_training(raw, values) + adopt_preprocessing(raw, values, folder)
    label(raw, values)
    return notes


def leave_out_pre_training(raw: Any, overridden: Collection[str]) -> list[str]:
    """Weights named on the command line take the place of MAE pre-training, unless the stages are named there too."""
    if "init_from" not in overridden or "stages" in overridden or not raw.init_from:
        return []
    stages = tuple(raw.stages)
    if stages[:1] != ("mae",) or len(stages) == 1:
        return []
    raw.stages = stages[1:]
    return [
        f"config.stages = {raw.stages}: {raw.init_from} takes the place of MAE pre-training (to pre-train from it: "
        f'--config.stages="{stages}")'
    ]


def adopt_preprocessing(raw: Any, overridden: Collection[str], folder: Path | None) -> list[str]:
    """Sets preprocessing and LayerNorm's epsilon of the weights to start from, but for what the command line sets.

    A run that goes on from its own checkpoints in `folder` keeps what it began with.

    Returns:
      What was changed, for people.
    """
    init_from, notes = raw.get("init_from"), []
    if not init_from:
        return notes
    first = next(iter(raw.get("stages") or ()), "")
    if folder is not None and workdir.has_checkpoint(folder / first):
        stored, source = workdir.load_config(folder), folder
        decided = origin.decided_before(stored)
        if stored.init_from != init_from:
            notes += [f"warning: config.init_from {init_from} is not read; {folder} goes on from its own checkpoints"]
    else:
        decided, source = origin.decided(init_from), init_from
    for key, value in decided.items():
        section, name = key.split(".")
        if key not in overridden and raw[section][name] != value:
            notes += [f"config.{key} = {value}, from {source} (the config says {raw[section][name]})"]
            raw[section][name] = value
    return notes


def label(raw: Any, values: Mapping[str, Any]) -> None:
    """Adds to the recipe's label what the command line changes in it; no published accuracy is that run's.

    The seed is told beside the label, and runtime keys change nothing that is computed; of the list of labeled images
    that is true in one workdir alone, which knows its content.
    """
    changed = [key for key in values if key == "data.label_list" or (key != "seed" and not is_runtime(key))]
    if not changed:
        return
    if "log.recipe" not in values:
        raw.log.recipe = _with(raw.log.recipe, {key: values[key] for key in changed})
    raw.log.origin = "ours"
    for stage in ("finetune", "semi"):
        if raw.get(stage):
            raw[stage].published_acc1 = 0.0


def label_plans(config: Config, plans: Sequence[Plan]) -> Config:
    """The config with what devices and images change in its batches and mixing groups in its label, as `label` does."""
    changed = {}
    for plan in plans:
        section = config.stage(plan.stage)
        if plan.batch_size != section.batch_size:
            changed[f"{plan.stage}.batch_size"] = plan.batch_size
        if plan.group_size != recipe_group(section):
            changed[f"{plan.stage}.mixup_group_size"] = plan.group_size
    if not changed:
        return config
    graded = {
        stage: dataclasses.replace(section, published_acc1=0.0)
        for stage, section in (("finetune", config.finetune), ("semi", config.semi))
        if section is not None
    }
    log = dataclasses.replace(config.log, recipe=_with(config.log.recipe, changed), origin="ours")
    return dataclasses.replace(config, log=log, **graded)


def _with(recipe: str, changed: Mapping[str, Any]) -> str:
    """The label of a recipe with further values changed in it."""
    joint = ", " if " with " in recipe else " with "
    return recipe + joint + ", ".join(f"{key}={value!r}" for key, value in changed.items())


def check_keys(argv: Sequence[str]) -> None:
    """Raises ConfigError where an override of a command line is no config key, naming the nearest one.

    ml_collections, which reads them, knows a mistyped key's last part alone.
    """
    legal = legal_keys()
    given = (a.lstrip("-").partition("=")[0] for a in argv if a.lstrip("-").startswith("config."))
    for key in (g.removeprefix("config.") for g in given):
        if key not in legal:
            close = _nearest(key, {k: k for k in legal}) or _nearest(key, {k.rpartition(".")[2]: k for k in legal})
            raise ConfigError(f"unknown key config.{key}" + (f"; did you mean config.{close}?" if close else ""))


def in_plain_words(message: str) -> str:
    """absl's message on a flag's value, with what a number must be said as such."""
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 must be a whole number", message)
    return re.sub(r"could not convert string to float: (.*)", r"\1 must be a number", message)


def legal_keys() -> list[str]:
    """All keys of a config, dotted."""
    return _keys(Config)


def _nearest(key: str, named: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(key, named, n=1)
    return named[close[0]] if close else ""


def _keys(section: type, prefix: str = "") -> list[str]:
    found = []
    for key, hint in typing.get_type_hints(section).items():
        inner = [h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and dataclasses.is_dataclass(h)]
        found += _keys(inner[0], f"{prefix}{key}.") if inner else [prefix + key]
    return found
