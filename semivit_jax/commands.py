"""`semivit train` and `semivit split`, and what every command does: flags in, exit code out."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from semivit_jax import console, split_report
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.cli import overrides
from semivit_jax.config import Config, ConfigError
from semivit_jax.data.bad_records import TooManyBadRecords
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.hosts import cluster, stopping
from semivit_jax.recipes import check
from semivit_jax.recipes.find import asks_for_help, help_text, with_paths
from semivit_jax.training import run
from semivit_jax.training.rollback import Collapsed

BAD_USAGE = 2
USAGE_ERRORS = (flags.Error, ConfigError, OSError)
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
        if help_asked("train --config=FILE[:ARGS] --workdir=DIR", argv):
            return 0
        config, values, notes = parse_config("train", argv, required=("workdir",), optional=())
    except USAGE_ERRORS as error:
        return usage_error("train", error)

    def action() -> None:
        with stopping.leaving_at_once():  # until the loop listens, which saves first
            run.train(config, Path(values["workdir"]), notes=notes)

    return guarded(action)


def split(argv: list[str]) -> int:
    """Draws the labeled subset of a config, reports it, and writes it as a list."""
    try:
        if help_asked("split --config=FILE[:ARGS] --out=LIST [--duplicates=no]", argv):
            return 0
        config, values, notes = parse_config("split", argv, required=("out",), optional=("duplicates",))
        if values["duplicates"] not in ("", "yes", "no"):
            raise flags.Error(f"--duplicates is {values['duplicates']!r}; legal values: yes (as without it), no")
    except USAGE_ERRORS as error:
        return usage_error("split", error)
    for line in notes:
        console.say(line)
    return guarded(lambda: split_report.draw(config, Path(values["out"]), duplicates=values["duplicates"] != "no"))


class CommandLine(NamedTuple):
    """A config with its overrides, checked; the command's own flags (text; '' where absent); lines for people."""

    config: Config
    flags: dict[str, str]
    notes: list[str]


def parse_config(command: str, argv: list[str], *, required: Sequence[str], optional: Sequence[str]) -> CommandLine:
    """Reads --config=FILE[:ARGS] and flags; touches no device, so hosts may still be brought together after it."""
    values: Any = flags.FlagValues()
    arguments = [f"semivit {command}", *with_paths(argv)]
    # Overrides are looked up in these arguments, by default in the process's own.
    config_flags.DEFINE_config_file("config", None, "recipe, FILE[:ARGS]", flag_values=values, sys_argv=arguments)
    for name in (*required, *optional):
        flags.DEFINE_string(name, "", "", flag_values=values)
    read_flags(values, arguments)
    name_missing(values, ("config", *required))
    folder = _workdir(values["workdir"].value) if "workdir" in required else None
    config, notes = config_of(values, folder)
    return CommandLine(config, {name: values[name].value for name in (*required, *optional)}, notes)


def read_flags(values: Any, arguments: Sequence[str]) -> None:
    """Parses a command line into flags of which one is --config.

    Raises:
      flags.Error: what of it cannot be understood. ConfigError: an override of a key that is none.
    """
    overrides.check_keys(arguments)
    try:
        rest = values(arguments)[1:]
    except (AttributeError, KeyError) as error:  # of the config file's code, or an override of a section it lacks
        raise flags.Error(f"the config has no {error.args[0]}") from error
    except flags.IllegalFlagValueError as error:
        raise flags.Error(overrides.in_plain_words(str(error))) from error
    if rest:
        raise flags.Error(f"{rest[0]!r} is neither a flag nor the value of one")


def config_of(values: Any, folder: Path | None) -> tuple[Config, list[str]]:
    """The checked config of parsed flags, with what follows from its overrides, and lines that say so.

    Args:
      values: as `read_flags` leaves them.
      folder: the workdir; None without one.
    """
    raw: Any = values["config"].value
    check.check_keys(raw)  # first, because what follows from overrides looks into the sections
    notes = overrides.apply(raw, config_flags.get_override_values(values["config"]), folder)
    return check.check(raw), notes


def name_missing(values: Any, required: Sequence[str]) -> None:
    """Raises flags.Error naming the flags that a command line lacks."""
    missing = [f"--{name}={_EXAMPLES[name]}" for name in required if not values[name].value]
    if missing:
        raise flags.Error(f"{' and '.join(missing)} must be given")


_EXAMPLES = {"config": "FILE", "workdir": "DIR", "out": "FILE", "topology": "NAME"}


def _workdir(text: str) -> Path:
    """A run's folder, or the place where it will be."""
    if "://" in text:  # it would become a folder of that name, on every host its own
        raise flags.Error(f"--workdir={text} is no folder; legal is one on a mounted file system")
    if os.path.isfile(text):
        raise flags.Error(f"--workdir={text} is a file; legal is a folder, new or of the run to go on with")
    return Path(text)


def help_asked(usage: str, argv: list[str]) -> bool:
    """Prints the help of a command that takes a config, if the flags ask for it."""
    asked = asks_for_help(argv)
    if asked:
        print(help_text(usage, argv))
    return asked


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
    console.show_warnings()
    try:
        action()
    except stopping.Stopped as stopped:
        console.say(str(stopped))
        cluster.leave_alone(exit_code=stopped.exit_code)
        return stopped.exit_code
    except (*EXPECTED_ERRORS, *also) as error:
        print(f"semivit: error: {error}", file=sys.stderr)
        cluster.leave_alone(exit_code=1)
        return 1
    except BaseException as error:
        cluster.leave_alone(exit_code=stopping.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)
        raise
    return 0
