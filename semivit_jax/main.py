"""Dispatch `semivit COMMAND`, and turn errors into messages and exit codes; the table COMMANDS."""

import atexit
import importlib
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from semivit_jax.hosts import printing, stopping

COMMANDS = {  # name: (module:function that takes the arguments after the name and returns an exit code, what it does)
    "train": ("semivit_jax.cli.train:train", "run the stages of a config: --config=FILE[:ARGS] --workdir=DIR"),
    "sweep": ("semivit_jax.cli.sweep:sweep", "a grid of runs: --config=FILE --set KEY=VALUE,VALUE --workdir=DIR"),
    "split": ("semivit_jax.cli.split:split", "draw a labeled subset and write it: --config=FILE --out=LIST"),
    "prepare": ("semivit_jax.cli.prepare:prepare", "raw images to a TFDS dataset: SOURCE --name NAME --data_dir DIR"),
    "import": (
        "semivit_jax.cli.import_weights:import_weights",
        "published weights in: SOURCE --out DIR",
    ),
    "models": ("semivit_jax.cli.models:models", "what there is to start from: sizes, memory, public weights, licences"),
    "plan": ("semivit_jax.cli.plan:plan", "what a run needs on a slice: --config=FILE --topology=v5e:16x16"),
    "predict": ("semivit_jax.cli.predict:predict", "images to labels: --workdir=DIR --images=FOLDER --out=CSV"),
    "embed": ("semivit_jax.cli.embed:embed", "images to features: --workdir=DIR --images=FOLDER --out=DIR"),
    "select": ("semivit_jax.cli.select:select", "which images to label first: --embedding=DIR --count=N --out=CSV"),
    "bank": (
        "semivit_jax.cli.bank:bank",
        "what runs say of the training images, to learn from: --runs=RUN,RUN --out=BANK",
    ),
    "label": ("semivit_jax.cli.label:label", "label images in a browser: --images=FOLDER --labels=CSV"),
    "export": ("semivit_jax.cli.export:export_weights", "weights out: --workdir=DIR --format=FORMAT --out=DIR"),
    "eval": ("semivit_jax.cli.eval:eval_weights", "grade a run, or imported weights, on a split: --workdir=DIR"),
    "report": ("semivit_jax.cli.report:report", "one page on how a run came out, or on several: --workdir=DIR"),
    "profile": ("semivit_jax.cli.profile:profile", "a trace of a few updates of a run that trains: --workdir=DIR"),
    "doctor": ("semivit_jax.cli.doctor:doctor", "what this machine has, and whether jax uses and computes on it"),
}
ERROR, BAD_USAGE = 1, 2


def main(argv: list[str]) -> int:
    """Runs one subcommand; returns its exit code (0 done, 1 error, 2 bad usage, 75 preempted, 130 Ctrl-C).

    Raises:
      KeyboardInterrupt: Ctrl-C, which has been answered and left nothing half-written, where nothing is to be saved.
    """
    if len(argv) < 2 or argv[1] in ("-h", "--help", "help"):
        print(usage(), file=sys.stderr if len(argv) < 2 else sys.stdout)
        return BAD_USAGE if len(argv) < 2 else 0
    name = argv[1]
    with stopping.answering(name if name in COMMANDS else "semivit"):
        return _run(argv)


def _run(argv: list[str]) -> int:
    """Loads a subcommand and runs it; returns its exit code."""
    if "--quiet" in argv:
        from semivit_jax import console  # loads jax, which `semivit --help` need not wait for

        console.hush()
        argv = [argument for argument in argv if argument != "--quiet"]
    name = argv[1]
    if name not in COMMANDS:
        print(f"semivit: unknown command {name!r}\n{usage()}", file=sys.stderr)
        return BAD_USAGE
    module, function = COMMANDS[name][0].split(":")
    command: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return command(argv[2:])


def usage() -> str:
    """The subcommands, one per line."""
    rows = "\n".join(f"  {name:<8} {text}" for name, (_, text) in COMMANDS.items())
    return f"usage: semivit COMMAND [flags] [--quiet: no progress]\n{rows}"


def run() -> None:
    """Entry point of the console script, and of tests that need a whole process."""
    # Before a command begins, and in the midst of Python's goodbye.
    signal.signal(signal.SIGINT, stopping.leave_at_once("stopped"))
    # At its very end Python takes its handlers away: all is done by then, and a Ctrl-C must not make a failure of it.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    printing.outlast()
    try:
        code = main(sys.argv)
    except KeyboardInterrupt:  # which has been answered; threads may still compute, and crash in Python's goodbye
        stopping.end(stopping.INTERRUPTED)
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process; after an error or Ctrl-C, without waiting for threads of a failed save (orbax: 5 minutes).

    Nor for those of a logger that was left behind.
    """
    if code in (ERROR, stopping.INTERRUPTED) or stopping.waits_for_nobody():
        stopping.end_within(stopping.GOODBYE_SECONDS, exit_code=code)
    sys.exit(code)


if __name__ == "__main__":
    run()
