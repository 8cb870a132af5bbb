"""Read the command line: a config with its overrides, and the flags that several commands share."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from semivit_jax.cli import overrides
from semivit_jax.config import Config
from semivit_jax.inference.trained import KEPT, TREES
from semivit_jax.recipes import check
from semivit_jax.recipes.find import asks_for_help, help_text, with_paths
from semivit_jax.stages import STAGES


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


def source_parser(command: str, description: str, *, with_use: bool = True) -> argparse.ArgumentParser:
    """Parser with the flags that choose a checkpoint and, `with_use`, one of its sets of weights."""
    parser = argparse.ArgumentParser(prog=f"semivit {command}", description=description, allow_abbrev=False)
    parser.add_argument(
        "--workdir", required=True, type=Path, metavar="DIR", help="run, one of its checkpoints, or `semivit import`"
    )
    parser.add_argument("--weights", choices=tuple(KEPT), default="latest", help="checkpoint of the stage")
    if with_use:
        parser.add_argument("--use", choices=TREES, help="default: ema_params where they exist")
    parser.add_argument("--stage", choices=tuple(STAGES), help="default: the latest with a checkpoint")
    return parser
