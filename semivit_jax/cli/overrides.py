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
    keep_younger_keys(raw, values, folder)
    label(raw, values)
    return notes


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
