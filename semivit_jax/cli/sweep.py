"""Train a grid of runs, each in a workdir of its own: `semivit sweep`."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import config_parser, help_asked, read_flags, run_folder
from semivit_jax.files import Path, read_json, write_json

if TYPE_CHECKING:  # seconds that help and mistyped flags need not wait for
    from semivit_jax.cli.grid import Axis, Member

FILE = "sweep.json"
_USAGE = (
    "sweep --config=FILE[:ARGS] --set KEY=VALUE,VALUE [--set ...] --workdir=DIR\n"
    "       [--jobs=N: so many at a time] [--list: show the members] [--member=I: run that one]"
)


def sweep(argv: list[str]) -> int:
    """Runs the members of a grid that are not finished, and tells what all have reached.

    Returns:
      The exit code: 0, all are finished; 1, some failed; 2, bad usage; 75, preempted; 130, Ctrl-C.
    """
    try:
        if help_asked(_USAGE, argv):
            return 0
        given = read_flags(_parser(), argv, required=("config", "set", "workdir"))
        asked, root = given.flags, run_folder(given.flags.workdir)
        if asked.list and asked.member is not None:
            raise flags.Error("--list and --member exclude each other")
        from semivit_jax.cli import grid, members
        from semivit_jax.hosts import accelerators

        axes = grid.read_axes(asked.set, given.config)
        found = grid.members(given.config, axes, root)
        if asked.member is not None and not 0 <= asked.member < len(found):
            raise flags.Error(f"--member={asked.member}; legal are 0 to {len(found) - 1}")
        places = members.places(asked.jobs, os.environ, accelerators.find)
        _check_own(root, axes, found if asked.member is None else [found[asked.member]])
        if not asked.list and not (root / FILE).exists():
            root.mkdir(parents=True, exist_ok=True)
            write_json(root / FILE, grid.as_stored(axes))
    except USAGE_ERRORS as error:
        return usage_error("sweep", error)
    if asked.list:
        return _show(root, found)
    if asked.member is not None:
        from semivit_jax.cli.train import train

        return train([*found[asked.member].arguments, f"--workdir={root / found[asked.member].name}"])
    return _run(root, found, places)


def _show(root: Path, found: Sequence["Member"]) -> int:
    """Prints how far all members are."""
    from semivit_jax.cli import results

    results.show(found, results.read(root, found, {}))
    return 0


def _run(root: Path, found: Sequence["Member"], places: Sequence[dict[str, str]]) -> int:
    """Runs what is not finished, then prints and writes the results of all."""
    from semivit_jax.checkpoints import workdir
    from semivit_jax.cli import members, results
    from semivit_jax.hosts import stopping

    left = [member for member in found if not workdir.is_done(root / member.name)]
    with stopping.listening() as stop:
        codes = members.run(left, members.starting(root, places), jobs=len(places), stop=stop)
    reached = results.read(root, found, codes)
    results.show(found, reached)
    results.write(root, found, reached)
    return stop.exit_code or members.exit_code(codes)


def _check_own(root: Path, axes: Sequence["Axis"], found: Sequence["Member"]) -> None:
    """Raises ConfigError where the folder is another sweep's, a member's that of another run, or a run's itself."""
    from semivit_jax.checkpoints import workdir
    from semivit_jax.cli import grid
    from semivit_jax.config import ConfigError

    if (root / "config.json").exists():
        raise ConfigError(f"{root} holds a run; give a --workdir that is new, or of the sweep to go on with")
    if (root / FILE).exists():
        grid.check_same(root, axes, read_json(root / FILE))
    for member in found:
        if (root / member.name / "config.json").exists():
            workdir.claim(root / member.name, member.config, first_host=False, say=lambda line: None)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser("sweep")
    parser.add_argument("--set", action="append")
    parser.add_argument("--workdir")
    parser.add_argument("--jobs", type=_count, default=1)  # members that run at a time
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--member", type=int)  # the number of one, which runs in this process
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of members; legal are 1, 2, 3, ...")
    return int(text)
