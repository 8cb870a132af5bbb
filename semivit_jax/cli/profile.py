"""Ask a run that trains for a trace of a few updates: `semivit profile`."""

import argparse
from collections.abc import Sequence

from semivit_jax import console, files
from semivit_jax.checkpoints import workdir
from semivit_jax.cli.guarded import guarded
from semivit_jax.config import ConfigError
from semivit_jax.training import lease, profiling
from semivit_jax.words import counted

_DESCRIPTION = """Asks a run that trains for a trace of a few updates. It begins after the run's next log line and comes
into the folder `profile` of the stage that trains."""
_OTHERWISE = "a start with --config.log.profile_at=STEP makes one of each stage"


def profile(argv: Sequence[str]) -> int:
    """Asks a run for a trace; returns an exit code."""
    parser = argparse.ArgumentParser(prog="semivit profile", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="of a run that trains now")
    parser.add_argument(
        "--steps", type=_at_least_one, metavar="N", help="updates; default: the run's config.log.profile_steps"
    )
    flags = parser.parse_args(argv)
    with guarded() as outcome:
        _ask(files.path(flags.workdir), flags.steps)
    return outcome.code


def _ask(folder: files.Path, steps: int | None) -> None:
    """Leaves the request where the run finds it.

    Raises:
      ConfigError: there is no run, or none that trains.
    """
    if not (folder / "config.json").exists():
        raise ConfigError(f"{folder} is no run: it has no config.json")
    if workdir.is_done(folder):
        raise ConfigError(f"{folder} is finished, so there is nothing to trace; {_OTHERWISE}")
    holder = lease.holder(folder)
    if holder is None:
        raise ConfigError(f"nothing trains in {folder} now; {_OTHERWISE}")
    config = workdir.load_config(folder)
    stage = next((name for name in config.stages if not workdir.is_done(folder / name)), config.stages[-1])
    steps = steps or config.log.profile_steps
    profiling.ask(folder, steps)
    console.say(
        f"asked {holder.process}: a trace of {counted(steps, 'update')} begins after its next log line, and comes "
        f"into {folder / stage / profiling.FOLDER}"
    )


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of updates; legal is 1 or more")
    return int(text)
