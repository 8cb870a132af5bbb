"""Applies each break in a copy of the tree and runs the tests that must notice it.

    python -m tests.breaks.run [--jobs N] [WORDS ...]

WORDS choose breaks whose name or path holds one of them; without any, all run. First the same tests run in a copy
without a break: where they fail there, a failure says nothing. Exit code: 0 where every break was noticed, 1 where one
was not, 2 where the tests fail by themselves.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.breaks import BREAKS
from tests.breaks.broken import Break

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "semivit_jax"
COPIED = ("semivit_jax", "configs", "tests", "benchmarks", "pyproject.toml")  # what the tests and the package read
NOTICED, FAILED = "noticed", 1  # pytest's exit code where a test failed; others say that it could not run
SECONDS = 300.0  # for the tests of one break


class Outcome(NamedTuple):
    """What became of a break: `NOTICED` or why not, the test that failed first, and how long it took."""

    verdict: str
    test: str
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Runs the chosen breaks and prints a table of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks.run", description="Show that tests notice breaks.")
    parser.add_argument("words", nargs="*", metavar="WORDS", help="parts of names or paths of breaks; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="breaks at a time")
    flags = parser.parse_args(argv)
    chosen = {name: one for name, one in BREAKS.items() if _is_meant(name, one, flags.words)}
    if not chosen:
        parser.error(f"no break is called {' or '.join(flags.words)}")
    tests = sorted({test for one in chosen.values() for test in one.tests})
    print(f"the tests without a break: {len(tests)} files or single tests", flush=True)
    code, output = run_tests(tests, None, seconds=SECONDS * len(tests))
    if code:
        print(f"{output}\nthe tests fail without any break, so that their failing says nothing")
        return 2
    with ThreadPoolExecutor(flags.jobs) as threads:
        outcomes = dict(zip(chosen, threads.map(_try, chosen, chosen.values()), strict=True))
    show(chosen, outcomes)
    return int(any(outcome.verdict != NOTICED for outcome in outcomes.values()))


def _is_meant(name: str, one: Break, words: Sequence[str]) -> bool:
    return not words or any(word in name or word in one.path for word in words)


def _try(name: str, one: Break) -> Outcome:
    """Breaks a copy, runs the tests, and tells the outcome at once."""
    started = time.monotonic()
    code, output = run_tests(one.tests, one, seconds=SECONDS)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    outcome = Outcome(verdict(code), found[1] if found else "", time.monotonic() - started)
    print(f"{outcome.verdict:<12} {name} ({outcome.seconds:.0f} s)", flush=True)
    return outcome


def verdict(code: int | None) -> str:
    """What an exit code of pytest says of a break; None: it ran out of time."""
    if code is None:
        return "OUT OF TIME"
    return {FAILED: NOTICED, 0: "NOT NOTICED"}.get(code, "CANNOT RUN")


def run_tests(tests: Sequence[str], one: Break | None, *, seconds: float) -> tuple[int | None, str]:
    """Runs tests up to the first failure in a copy of the tree, broken by `one`.

    Returns:
      (exit code of pytest, its output); the code is None where it ran out of time.
    """
    with tempfile.TemporaryDirectory(prefix="semivit_break_") as folder:
        copy = Path(folder)
        _copy_tree(copy)
        if one is not None:
            module = copy / "semivit_jax" / one.path
            module.write_text(module.read_text().replace(one.old, one.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-rfE", "-p", "no:cacheprovider", *tests]
        environ = os.environ | {"PYTHONPATH": folder}
        process = subprocess.Popen(
            command, cwd=copy, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that tests have started
            output, _ = process.communicate()
            return None, output
        return process.returncode, output


def _copy_tree(into: Path) -> None:
    """Times of files are kept, so that compiled modules of the tree serve the copy."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, into / name, symlinks=True)
        else:
            shutil.copy2(source, into / name)


def show(chosen: dict[str, Break], outcomes: dict[str, Outcome]) -> None:
    """One row per break, those that nobody noticed last."""
    table = Table("break", "module", "", "noticed by", "s")
    for name in sorted(chosen, key=lambda name: outcomes[name].verdict != NOTICED):
        outcome = outcomes[name]
        table.add_row(name, chosen[name].path, outcome.verdict, outcome.test, f"{outcome.seconds:.0f}")
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    missed = sum(outcome.verdict != NOTICED for outcome in outcomes.values())
    console.print(f"{len(outcomes) - missed} of {len(outcomes)} breaks are noticed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
