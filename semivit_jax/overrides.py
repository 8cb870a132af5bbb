"""What `--config.KEY=VALUE` means beyond the value itself: stages, preprocessing, the recipe's label, typing errors."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from semivit_jax import logs, workdir
from semivit_jax.config import Config, ConfigError, is_runtime
from semivit_jax.weights.folder import is_import, load_facts, load_preprocessing


def apply(raw: Any, values: Mapping[str, Any]) -> Any:
    """A config with everything that follows from its overrides; `values` are those, by key without 'config.'."""
    raw = without_pre_training(raw, values)
    raw = with_preprocessing(raw, values)
    return labelled(raw, values)


def without_pre_training(raw: Any, overridden: Collection[str]) -> Any:
    """Weights named on the command line take the place of MAE pre-training, unless the stages are named there too."""
    if "init_from" not in overridden or "stages" in overridden or not raw.init_from:
        return raw
    stages = tuple(raw.stages)
    if stages[:1] == ("mae",) and len(stages) > 1:
        raw.stages = stages[1:]
        logs.say_early(
            f"config.stages = {raw.stages}: {raw.init_from} takes the place of MAE pre-training (to pre-train from it: "
            f'--config.stages="{stages}")'
        )
    return raw


def with_preprocessing(raw: Any, overridden: Collection[str]) -> Any:
    """Preprocessing and LayerNorm's epsilon of the weights to start from, for every key not set on the command line."""
    for key, value in _of_weights(raw.get("init_from")).items():
        section, name = key.split(".")
        if key not in overridden and raw[section][name] != value:
            logs.say_early(f"config.{key} = {value}, from {raw.init_from} (the config says {raw[section][name]})")
            raw[section][name] = value
    return raw


def _of_weights(init_from: str | None) -> dict[str, Any]:
    """Config keys that imported weights, or those of another run, decide; none for other folders."""
    if not init_from:
        return {}
    if is_import(init_from):
        view, eps = load_preprocessing(init_from), load_facts(init_from).layer_norm_eps
        crop_fraction = view.crop_fraction
    elif (Path(init_from) / "config.json").exists():
        stored = workdir.load_config(Path(init_from))
        view, eps, crop_fraction = stored.data, stored.model.layer_norm_eps, stored.data.eval_crop_fraction
    else:
        return {}
    return {
        "data.mean": view.mean,
        "data.std": view.std,
        "data.image_size": view.image_size,
        "data.eval_crop_fraction": crop_fraction,
        "data.interpolation": view.interpolation,
        "model.layer_norm_eps": eps,
    }


def labelled(raw: Any, values: Mapping[str, Any]) -> Any:
    """Adds to the recipe's label what the command line changes in it; no published accuracy is that run's.

    The seed is told beside the label, and runtime keys change nothing that is computed.
    """
    changed = [key for key in values if key != "seed" and not is_runtime(key)]
    if not changed:
        return raw
    if "log.recipe" not in values:
        raw.log.recipe += " with " + ", ".join(f"{key}={values[key]!r}" for key in changed)
    raw.log.origin = "ours"
    for stage in ("finetune", "semi"):
        if raw.get(stage):
            raw[stage].published_acc1 = 0.0
    return raw


def check_keys(argv: Sequence[str]) -> None:
    """Raises ConfigError where an override of a command line is no config key, naming the nearest one.

    ml_collections, which reads them, knows a mistyped key's last part alone.
    """
    legal = _keys(Config)
    given = (a.lstrip("-").partition("=")[0] for a in argv if a.lstrip("-").startswith("config."))
    for key in (g.removeprefix("config.") for g in given):
        if key not in legal:
            close = _nearest(key, {k: k for k in legal}) or _nearest(key, {k.rpartition(".")[2]: k for k in legal})
            raise ConfigError(f"unknown key config.{key}" + (f"; did you mean config.{close}?" if close else ""))


def _nearest(key: str, named: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(key, named, n=1)
    return named[close[0]] if close else ""


def _keys(section: type, prefix: str = "") -> list[str]:
    """All keys of a config section, dotted."""
    found = []
    for key, hint in typing.get_type_hints(section).items():
        inner = [h for h in (hint, *typing.get_args(hint)) if isinstance(h, type) and dataclasses.is_dataclass(h)]
        found += _keys(inner[0], f"{prefix}{key}.") if inner else [prefix + key]
    return found
