"""Apply what follows from `--config.KEY=VALUE`: stages, preprocessing, recipe label, key checks."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from semivit_jax import files
from semivit_jax.checkpoints import init_from as origin
from semivit_jax.checkpoints import workdir
from semivit_jax.config import RUNTIME, ConfigError, flatten
from semivit_jax.files import Path
from semivit_jax.recipes.keys import marks
from semivit_jax.recipes.label import label
from semivit_jax.stages import STAGES


def apply(raw: Any, values: Mapping[str, Any], arguments: Collection[str], folder: Path | None) -> list[str]:
    """Sets what follows from the overrides of a config.

    Args:
      raw: the config, changed in place.
      values: its overrides, by key without 'config.'.
      arguments: names of the recipe's arguments that are given.
      folder: the workdir; None without one.

    Returns:
      What else was changed, for people.

    Raises:
      ConfigError: the command line contradicts the weights to start from.
    """
    chosen = {*values, *(MODEL_KEYS if MODEL_ARGUMENT in arguments else ())}
    recipes_own = raw.model.variant
    notes = leave_out_pre_training(raw, values) + adopt_preprocessing(raw, chosen, folder)
    adopted = {} if raw.model.variant == recipes_own else {"model.variant": raw.model.variant}
    keep_younger_keys(raw, values, folder)
    label(raw, {**values, **adopted})
    return notes


MODEL_ARGUMENT = "model"  # of every recipe that leaves a choice
MODEL_KEYS = ("model.variant",)  # that it decides


def keep_younger_keys(raw: Any, overridden: Collection[str], folder: Path | None) -> None:
    """Gives keys that are younger than a workdir the values that stand for what was done before there were any.

    A recipe may have others by now, and the run would be refused as another experiment.
    """
    if folder is None or not any(workdir.has_checkpoint(folder / stage) for stage in raw.get("stages") or ()):
        return
    stored, before = files.read_json(folder / "config.json"), flatten(workdir.load_config(folder))
    for key, marked in marks().items():
        section, _, name = key.rpartition(".")
        written, given = (_section(whole, section) for whole in (stored, raw))
        if written is None or given is None or name in written:
            continue
        if RUNTIME not in marked and key not in overridden:
            given[name] = before[key]


def leave_out_pre_training(raw: Any, overridden: Collection[str]) -> list[str]:
    """Weights named on the command line take the place of pre-training, unless the stages are named there too."""
    if "init_from" not in overridden or "stages" in overridden or not raw.init_from:
        return []
    stages = tuple(raw.stages)
    if len(stages) < 2 or stages[0] not in STAGES or not STAGES[stages[0]].pre_training:
        return []
    raw.stages = stages[1:]
    return [
        f"config.stages = {raw.stages}: {raw.init_from} takes the place of MAE pre-training (to pre-train from it: "
        f'--config.stages="{stages}")'
    ]


def adopt_preprocessing(raw: Any, overridden: Collection[str], folder: Path | None) -> list[str]:
    """Sets model and preprocessing of the weights to start from, but for what the command line sets.

    A run that goes on from its own checkpoints in `folder` keeps what it began with.

    Returns:
      What the weights are and what was changed, for people.

    Raises:
      ConfigError: the command line names another model than that of the weights.
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
        _refuse_another_model(raw, decided, overridden, init_from)
        if decided:
            notes += [f"{init_from}: {', '.join(f'{_last(key)} {_plain(value)}' for key, value in decided.items())}"]
    for key, value in decided.items():
        section, name = key.split(".")
        if key not in overridden and raw[section][name] != value:
            notes += [f"config.{key} = {value}, from {source} (the config says {raw[section][name]})"]
            raw[section][name] = value
    return notes


def _refuse_another_model(raw: Any, decided: Mapping[str, Any], overridden: Collection[str], init_from: str) -> None:
    theirs, ours = decided.get("model.variant"), raw.model.variant
    if "model.variant" not in overridden or theirs in (None, ours):
        return
    raise ConfigError(
        f"config.init_from {init_from} holds a {theirs}, and the command line asks for {ours}: leave the model away, "
        "then the weights decide it"
    )


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_keys(argv: Sequence[str]) -> None:
    """Raises ConfigError where an override of a command line is no config key, naming the nearest one.

    ml_collections, which reads them, knows a mistyped key's last part alone.
    """
    legal = list(marks())
    given = (a.lstrip("-").partition("=")[0] for a in argv if a.lstrip("-").startswith("config."))
    for key in (g.removeprefix("config.") for g in given):
        if key not in legal:
            close = _nearest(key, {k: k for k in legal}) or _nearest(key, {k.rpartition(".")[2]: k for k in legal})
            raise ConfigError(f"unknown key config.{key}" + (f"; did you mean config.{close}?" if close else ""))


def in_plain_words(message: str) -> str:
    """absl's message on a flag's value, with what a number must be said as such."""
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 must be a whole number", message)
    return re.sub(r"could not convert string to float: (.*)", r"\1 must be a number", message)


def _section(whole: Any, path: str) -> Any:
    """A section by its dotted path, '' is the whole; None where it is absent."""
    for name in path.split(".") if path else ():
        whole = whole.get(name) if whole is not None else None
    return whole


def _nearest(key: str, named: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(key, named, n=1)
    return named[close[0]] if close else ""
