"""`semivit train` and `semivit eval`: flags in, exit code out."""

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from semivit_jax import cluster, config_check, logs, run, stopping
from semivit_jax.checkpoint import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.data.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.rollback import Collapsed
from semivit_jax.weights.folder import is_import, load_preprocessing

CONFIGS = Path(__file__).parent / "configs"
BAD_USAGE = 2
EXPECTED_ERRORS = (ConfigError, DatasetError, SplitError, CheckpointError, Collapsed, cluster.ClusterError, OSError)


def train(argv: list[str]) -> int:
    """Trains the stages a config names, in its workdir."""
    values: Any = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "recipe, FILE[:ARGS]", flag_values=values)
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    try:
        rest = values(["semivit train", *(with_path(a) for a in argv)])[1:]
        raw: Any = values["config"].value
        if rest or not values["workdir"].value or raw is None:
            raise flags.Error(f"need --config=FILE and --workdir=DIR, and nothing else; got {argv}")
        overridden = config_flags.get_override_values(values["config"])
        config = config_check.check(with_preprocessing(raw, overridden))
    except (flags.Error, ConfigError, AttributeError, ValueError, FileNotFoundError) as error:
        return usage_error("train", error)
    return _guarded(lambda: run.train(config, Path(values["workdir"].value)))


def evaluate(argv: list[str]) -> int:
    """Evaluates params and ema_params of the latest stage of a workdir."""
    values: Any = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    try:
        rest = values(["semivit eval", *argv])[1:]
        if rest or not values["workdir"].value:
            raise flags.Error(f"need --workdir=DIR and nothing else; got {argv}")
    except flags.Error as error:
        return usage_error("eval", error)
    return _guarded(lambda: run.evaluate(Path(values["workdir"].value)))


def with_preprocessing(raw: Any, overridden: Collection[str]) -> Any:
    """Mean, std, size, crop and interpolation of imported weights, for every key not set on the command line."""
    if not raw.get("init_from") or not is_import(raw.init_from):
        return raw
    found = load_preprocessing(raw.init_from)
    adopted = {
        "mean": found.mean,
        "std": found.std,
        "image_size": found.image_size,
        "eval_crop_fraction": found.crop_fraction,
        "interpolation": found.interpolation,
    }
    for key, value in adopted.items():
        if f"data.{key}" not in overridden and raw.data[key] != value:
            logs.say(f"config.data.{key} = {value}, from the imported weights (the config says {raw.data[key]})")
            raw.data[key] = value
    return raw


def with_path(argument: str) -> str:
    """--config=digits and --config=configs/digits.py both find a recipe installed with the package."""
    if not argument.startswith("--config="):
        return argument
    name, colon, args = argument.removeprefix("--config=").partition(":")
    if os.path.exists(name):
        return argument
    installed = CONFIGS / (Path(name).name.removesuffix(".py") + ".py")
    if not installed.exists():
        names = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.py") if not p.stem.startswith("_")))
        raise FileNotFoundError(f"there is no config {name!r}; a path, or one of: {names}")
    return f"--config={installed}{colon}{args}"


def usage_error(command: str, error: Exception) -> int:
    print(f"semivit {command}: {error}", file=sys.stderr)
    return BAD_USAGE


def _guarded(action: Any) -> int:
    """Runs the command; expected errors become one message, all others keep their traceback."""
    # grain's workers read absl's flags, which only absl.app would have parsed.
    flags.FLAGS.mark_as_parsed()
    try:
        action()
    except stopping.Stopped as stopped:
        logs.say(str(stopped))
        return stopped.exit_code
    except EXPECTED_ERRORS as error:
        print(f"semivit: error: {error}", file=sys.stderr)
        return 1
    return 0
