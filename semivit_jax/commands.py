"""`semivit train` and `semivit split`, and what every command does: flags in, exit code out."""

import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from semivit_jax import cluster, config_check, logs, origin, run, split_report, stopping, workdir
from semivit_jax.checkpoint import CheckpointError
from semivit_jax.config import Config, ConfigError
from semivit_jax.data.bad_records import TooManyBadRecords
from semivit_jax.data.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.rollback import Collapsed

CONFIGS = Path(__file__).parent / "configs"
BAD_USAGE = 2
USAGE_ERRORS = (flags.Error, ConfigError, AttributeError, KeyError, ValueError, FileNotFoundError)
EXPECTED_ERRORS = (
    ConfigError,
    DatasetError,
    SplitError,
    TooManyBadRecords,
    CheckpointError,
    Collapsed,
    cluster.ClusterError,
    OSError,
)


def train(argv: list[str]) -> int:
    """Trains the stages a config names, in its workdir."""
    try:
        config, values, notes = parse_config("train", argv, required=("workdir",), optional=())
        if "://" in values["workdir"]:  # it would become a folder of that name, on every host its own
            raise flags.Error(f"--workdir={values['workdir']} is no folder; legal is one on a mounted file system")
    except USAGE_ERRORS as error:
        return usage_error("train", error)
    return guarded(lambda: run.train(config, Path(values["workdir"]), notes=notes))


def split(argv: list[str]) -> int:
    """Draws the labeled subset of a config, reports it, and writes it as a list."""
    try:
        config, values, notes = parse_config("split", argv, required=("out",), optional=("duplicates",))
        if values["duplicates"] not in ("", "yes", "no"):
            raise flags.Error(f"--duplicates is {values['duplicates']!r}; legal values: yes (as without it), no")
    except USAGE_ERRORS as error:
        return usage_error("split", error)
    for line in notes:
        logs.say(line)
    return guarded(lambda: split_report.draw(config, Path(values["out"]), duplicates=values["duplicates"] != "no"))


class CommandLine(NamedTuple):
    """A config with its overrides, checked; the command's own flags (text; '' where absent); lines for people."""

    config: Config
    flags: dict[str, str]
    notes: list[str]


def parse_config(command: str, argv: list[str], *, required: Sequence[str], optional: Sequence[str]) -> CommandLine:
    """Reads --config=FILE[:ARGS] and flags; touches no device, so hosts may still be brought together after it."""
    values: Any = flags.FlagValues()
    arguments = [f"semivit {command}", *(with_path(a) for a in argv)]
    # Overrides are looked up in these arguments, by default in the process's own.
    config_flags.DEFINE_config_file("config", None, "recipe, FILE[:ARGS]", flag_values=values, sys_argv=arguments)
    for name in (*required, *optional):
        flags.DEFINE_string(name, "", "", flag_values=values)
    try:
        rest = values(arguments)[1:]
    except (AttributeError, KeyError) as error:  # ml_collections names the last part of a mistyped key alone
        raise flags.Error(_mistyped(argv, str(error))) from error
    raw: Any = values["config"].value
    if rest or raw is None or not all(values[name].value for name in required):
        needed = " ".join(f"--{name}=..." for name in required)
        raise flags.Error(f"need --config=FILE {needed}, and nothing else; got {' '.join(argv)!r}")
    overridden = config_flags.get_override_values(values["config"])
    folder = Path(values["workdir"].value) if "workdir" in required else None
    notes = adopt_preprocessing(raw, overridden, folder)
    own = {name: values[name].value for name in (*required, *optional)}
    return CommandLine(config_check.check(raw), own, notes)


def _mistyped(argv: list[str], hint: str) -> str:
    """The whole mistyped key of the command line, and the library's suggestion where it has one."""
    overrides = (a.removeprefix("--").split("=")[0] for a in argv if a.startswith("--config."))
    key = next((k for k in overrides if k.rsplit(".", 1)[-1] in hint), "a --config override")
    close = re.search(r'Did you mean \\*"(\w+)', hint)
    return f"unknown key {key}" + (f"; did you mean {close[1]!r}?" if close else "")


def adopt_preprocessing(raw: Any, overridden: Collection[str], folder: Path | None) -> list[str]:
    """Sets preprocessing and LayerNorm's epsilon of the weights to start from, but for what the command line sets.

    A run that goes on from its own checkpoints in `folder` keeps what it began with.

    Args:
      raw: the config, changed in place.
      overridden: its keys that the command line sets.
      folder: the workdir; None without one.

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
    """Says on stderr what is wrong with a command line; returns its exit code."""
    # ml_collections puts its hint into an argument of the error, whose own text would be quoted.
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if "Traceback (most recent call last)" in text:  # a config file that raised; its last line is the message
        text = text.strip().splitlines()[-1].partition(": ")[2]
    print(f"semivit {command}: {text}", file=sys.stderr)
    return BAD_USAGE


def guarded(action: Any, *, also: tuple[type[Exception], ...] = ()) -> int:
    """Runs a command; expected errors, and those of `also`, become one message, all others keep their traceback."""
    # grain's workers read absl's flags, which only absl.app would have parsed.
    flags.FLAGS.mark_as_parsed()
    logs.show_warnings()
    try:
        action()
    except stopping.Stopped as stopped:
        logs.say(str(stopped))
        return stopped.exit_code
    except (*EXPECTED_ERRORS, *also) as error:
        print(f"semivit: error: {error}", file=sys.stderr)
        cluster.leave_alone(exit_code=1)
        return 1
    except BaseException:
        cluster.leave_alone(exit_code=1)
        raise
    return 0
