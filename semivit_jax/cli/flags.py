"""Read a command line: argparse takes the flags of a command, ml_collections all that begins with --config."""

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from semivit_jax import files
from semivit_jax.config import Config
from semivit_jax.recipes.find import FLAG, argument_names, asks_for_help, help_text, with_paths

_EXAMPLES = {
    "config": "FILE",
    "workdir": "DIR",
    "out": "FILE",
    "topology": "NAME",
    "set": "KEY=VALUE,VALUE",
    "runs": "RUN,RUN",
}


class Given(NamedTuple):
    """The flags of a command, None where absent, and the arguments that name a config and override its keys."""

    flags: argparse.Namespace
    config: list[str]


def config_parser(command: str) -> argparse.ArgumentParser:
    """A parser for the own flags of a command that takes a config; `help_asked` tells what they are."""
    return argparse.ArgumentParser(prog=f"semivit {command}", add_help=False, allow_abbrev=False, exit_on_error=False)


def source_parser(command: str, description: str, *, with_use: bool = True) -> argparse.ArgumentParser:
    """A parser with the flags that choose a checkpoint and, `with_use`, one of its sets of weights."""
    from semivit_jax.checkpoints.whole import TREES  # these three load jax
    from semivit_jax.inference.trained import AUTO, KEPT
    from semivit_jax.stages import STAGES

    parser = argparse.ArgumentParser(prog=f"semivit {command}", description=description, allow_abbrev=False)
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="run, one of its checkpoints, or `semivit import`"
    )
    if not with_use:
        parser.add_argument("--weights", choices=tuple(KEPT), default="latest", help="checkpoint of the stage")
    else:
        told = "checkpoint of the stage; auto: latest, or best where a run ended below its probe or an earlier stage"
        parser.add_argument("--weights", choices=(AUTO, *KEPT), default=AUTO, help=told)
        parser.add_argument("--use", choices=TREES, help="default: ema_params where they exist")
    parser.add_argument("--stage", choices=tuple(STAGES), help="default: the latest with a checkpoint")
    return parser


def read_flags(parser: argparse.ArgumentParser, argv: Sequence[str], *, required: Sequence[str]) -> Given:
    """Parses the flags of a command, which may be written -flag, --flag=VALUE or --flag VALUE.

    Raises:
      flags.Error: what cannot be understood, or which of the `required` flags are missing.
    """
    own, about_config = _divide(argv)
    about_config = with_paths(about_config)
    try:
        found, rest = parser.parse_known_args(own)
    except argparse.ArgumentError as error:
        raise flags.Error(str(error)) from error
    _refuse(rest)
    has_config = any(argument.startswith(FLAG) for argument in about_config)
    missing = [name for name in required if not (has_config if name == "config" else getattr(found, name))]
    if missing:
        raise flags.Error(f"{' and '.join(f'--{name}={_EXAMPLES[name]}' for name in missing)} must be given")
    return Given(found, about_config)


def read_config(command: str, arguments: Sequence[str], folder: files.Path | None) -> tuple[Config, list[str]]:
    """A config with its overrides and what follows from them, checked; touches no device.

    So hosts may still be brought together after it.

    Args:
      command: for messages.
      arguments: that name it and override its keys, as `read_flags` leaves them.
      folder: the workdir; None without one.

    Returns:
      The config, and lines for people about what follows.

    Raises:
      flags.Error: what of it cannot be understood. ConfigError: an override of a key that is none.
    """
    from ml_collections import config_flags  # these load jax

    from semivit_jax.cli import overrides
    from semivit_jax.recipes import check
    from semivit_jax.training import writers

    values: Any = flags.FlagValues()
    argv = [f"semivit {command}", *arguments]
    # Overrides are looked up in these arguments, by default in the process's own.
    config_flags.DEFINE_config_file("config", None, "recipe, FILE[:ARGS]", flag_values=values, sys_argv=argv)
    overrides.check_keys(arguments)
    try:
        rest = values(argv)[1:]
    except (AttributeError, KeyError) as error:  # of the config file's code, or an override of a section it lacks
        raise flags.Error(f"the config has no {error.args[0]}") from error
    except flags.IllegalFlagValueError as error:
        raise flags.Error(overrides.in_plain_words(str(error))) from error
    _refuse(rest)
    raw: Any = values["config"].value
    check.check_keys(raw)  # first, because what follows from overrides looks into the sections
    values_given = config_flags.get_override_values(values["config"])
    notes = overrides.apply(raw, values_given, argument_names(arguments), folder)
    config = check.check(raw)
    writers.check_words(config.log)
    return config, notes


def run_folder(text: str) -> files.Path:
    """The folder of --workdir: a run's, or the place where it will be.

    Raises:
      flags.Error: there can be none.
    """
    if os.path.isfile(text):
        raise flags.Error(f"--workdir={text} is a file; legal is a folder, new or of the run to go on with")
    try:
        return files.path(text)
    except OSError as error:
        raise flags.Error(f"--workdir={error}") from error


def boolean(text: str) -> bool:
    """What absl takes for yes or no: true and false, t and f, 1 and 0.

    Raises:
      ValueError: neither of them.
    """
    return flags.BooleanParser().parse(text)


def help_asked(usage: str, argv: Sequence[str]) -> bool:
    """Prints the help of a command that takes a config, if the flags ask for it."""
    asked = asks_for_help(argv)
    if asked:
        print(help_text(usage, argv))
    return asked


def _divide(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of the command's own, and those of the config, each with the value that follows it."""
    own, about_config, remaining = [], [], list(argv)
    while remaining:
        argument = re.sub(r"^-(?=[a-z]{2})", "--", remaining.pop(0))
        if not re.match(r"--(no)?config([.=]|$)", argument):
            own.append(argument)
            continue
        about_config.append(argument)
        if "=" not in argument and remaining and not re.match(r"-+[^\d.]", remaining[0]):
            about_config.append(remaining.pop(0))
    return own, about_config


def _refuse(rest: Sequence[str]) -> None:
    if rest:
        raise flags.Error(f"{rest[0]!r} is neither a flag nor the value of one")
