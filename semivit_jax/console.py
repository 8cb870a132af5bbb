"""Print lines, tables and progress for people, on the first host."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TypeVar

import jax
import rich.progress
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# Long tables and warnings must not be cut where output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)


SECONDS_BETWEEN_PLAIN_LINES = 10.0
_Item = TypeVar("_Item")
_quiet = False


def hush() -> None:
    """Shows no progress from now on in this process; lines, warnings, results and errors are told as before."""
    global _quiet
    _quiet = True


def track(items: Iterable[_Item], title: str, *, total: int) -> Iterator[_Item]:
    """The items; a bar with rate and time left on a terminal, elsewhere a line every few seconds and none before."""
    if console.is_terminal and not _quiet:
        yield from rich.progress.track(items, title, total=total, console=console, transient=True)
        return
    told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if not _quiet and time.monotonic() - told >= SECONDS_BETWEEN_PLAIN_LINES:
            told = time.monotonic()
            say(f"{title}: {number:,} of {total:,}")


@contextlib.contextmanager
def working(what: str, *, active: bool = True) -> Iterator[None]:
    """Tells every few seconds how long the block has taken, for what has no steps to count."""
    active = active and not _quiet
    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(SECONDS_BETWEEN_PLAIN_LINES):
            say(f"{what}: {time.monotonic() - began:.0f} s so far")

    teller = threading.Thread(target=tell, daemon=True)
    if active:
        teller.start()
    try:
        yield
    finally:
        ended.set()
        if active:
            teller.join()


class ProgressLine:
    """A bar on a terminal; elsewhere a plain line, at most one every few seconds."""

    def __init__(self, title: str, total_steps: int, *, active: bool, shown: Mapping[str, str]):
        """Args: shown, name of a number -> its format, of what is told beside the loss and the speed."""
        self._title, self._total, self._active = title, total_steps, active and not _quiet
        self._shown = {"train/loss": "loss {:.4g}", **shown, "perf/images_per_sec": "{:,.1f} images/s"}
        self._bar, self._last = None, 0.0
        if self._active and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console)
            self._bar.start()
            self._task = self._bar.add_task(title, total=total_steps, text="")

    def show(self, step: int, values: Mapping[str, float], *, undefined: Set[str] = frozenset()) -> None:
        """Shows the step and the numbers just logged, but for the `undefined` ones."""
        if not self._active:
            return
        shown = [words.format(values[k]) for k, words in self._shown.items() if k in values and k not in undefined]
        text = "  ".join(shown)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_PLAIN_LINES or step >= self._total:
            self._last = time.monotonic()
            say(f"{self._title} {step}/{self._total}  {text}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class _Lines(logging.Handler):
    """Prints log messages as `say` does, but on every host; rich's own handler breaks and pads long ones."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), soft_wrap=True, markup=False)


def show_warnings() -> None:
    """Lets the package's own log messages (bad images, hosts that are waited for) reach people, one line each."""
    log = logging.getLogger("semivit_jax")
    if not log.handlers:
        log.addHandler(_Lines())
        log.setLevel(logging.INFO)
        log.propagate = False


def say(line: str) -> None:
    """Prints one line, on the first host."""
    if jax.process_index():
        return
    console.print(line, soft_wrap=True, markup=False)
