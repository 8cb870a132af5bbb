"""Print lines, tables and progress for people, on the first host."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import timedelta
from typing import TypeVar

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

# Long tables and warnings must not be cut where output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)


SECONDS_BETWEEN_PLAIN_LINES = 10.0
_NUMBERS_WIDTH = 33  # columns of a terminal for '123,456/1,234,567 1,234/s 0:12:34' with the spaces between
_TIME_WIDTH = 13  # of a spinner or a `/`, a time and the spaces between
_NARROW, _LEAST_WIDTH = 60, 8  # columns: of a terminal without room for a bar; of a text
_Item = TypeVar("_Item")
_quiet = False


def hush() -> None:
    """Shows no progress from now on in this process; lines, warnings, results and errors are told as before."""
    global _quiet
    _quiet = True


def is_hushed() -> bool:
    """Whether `hush` was called, which processes that this one starts must be told."""
    return _quiet


def track(items: Iterable[_Item], title: str, *, total: int) -> Iterator[_Item]:
    """The items, while `counting` shows how many have been worked on."""
    with counting(title, total=total) as count:
        for number, item in enumerate(items, 1):
            yield item
            count(number)


@contextlib.contextmanager
def counting(title: str, *, total: int, before: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on a terminal; elsewhere a line with these every few seconds, and none before.

    Args:
      title: of what is done.
      total: how many there are.
      before: how many of them were done at an earlier start, which say nothing of the rate.

    Yields:
      A function that takes how many are done.
    """
    done = before

    def count(number: int) -> None:
        nonlocal done
        done = number

    def told(seconds: float) -> str:
        rate = (done - before) / seconds
        pace = f"{_rate(rate)}, {_time((total - done) / rate)} left" if rate else f"{seconds:.0f} s so far"
        return f"{title}: {done:,} of {total:,}, {pace}"

    if _quiet or not _draws():
        with _telling(told):
            yield count
        return
    numbers = (TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), _RateColumn(), TimeRemainingColumn())
    with Progress(*_head_columns(), *numbers, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=before)
        yield lambda number: bar.update(task, completed=number)


@contextlib.contextmanager
def working(what: str, *, active: bool = True) -> Iterator[None]:
    """Tells how long the block has taken, for what has no steps to count: all the time on a terminal, else as above."""
    if not active:
        yield
    elif _quiet or not _draws():
        with _telling(lambda seconds: f"{what}: {seconds:.0f} s so far"):
            yield
    else:
        columns = (SpinnerColumn(), _cut_column("{task.description}", console.width - _TIME_WIDTH), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            bar.add_task(what, total=None)
            yield


def _draws() -> bool:
    """Whether a bar can be drawn; a terminal that cannot move its cursor would show none."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def _telling(told: Callable[[float], str]) -> Iterator[None]:
    """Says `told(seconds since the start)` every few seconds while the block runs, but where nothing is to be shown."""
    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(SECONDS_BETWEEN_PLAIN_LINES):
            say(told(time.monotonic() - began))

    teller = threading.Thread(target=tell, daemon=True)
    if not _quiet:
        teller.start()
    try:
        yield
    finally:
        ended.set()
        if not _quiet:
            teller.join()


class _RateColumn(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task.speed) if task.speed else "", style="progress.data.speed")


def _head_columns() -> list[ProgressColumn]:
    """Title and bar, as wide as the numbers leave room for: a bar keeps to one line, and the numbers are whole."""
    bar = [BarColumn(bar_width=_bar_width())] if _bar_width() else []
    return [_cut_column("{task.description}", console.width - _NUMBERS_WIDTH - _bar_width()), *bar]


def _bar_width() -> int:
    return 0 if console.width < _NARROW else min(40, console.width // 5)


def _cut_column(text: str, width: int) -> ProgressColumn:
    cut = Column(no_wrap=True, overflow="ellipsis", max_width=max(_LEAST_WIDTH, width))
    return TextColumn(text, markup=False, table_column=cut)


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class ProgressLine:
    """A bar on a terminal; elsewhere a plain line, at most one every few seconds."""

    def __init__(self, title: str, total_steps: int, *, active: bool, shown: Mapping[str, str]):
        """Args: shown, name of a number -> its format, of what is told beside the loss and the speed."""
        self._title, self._total, self._active = title, total_steps, active and not _quiet
        self._shown = {"train/loss": "loss {:.4g}", **shown, "perf/images_per_sec": "{:,.1f} images/s"}
        self._bar, self._last = None, 0.0
        if self._active and _draws():
            steps = TextColumn("{task.completed}/{task.total}")
            room = console.width - len(title) - _bar_width() - 2 * len(str(total_steps)) - _TIME_WIDTH
            text = _cut_column("{task.fields[text]}", room)
            self._bar = Progress(*_head_columns(), steps, TimeRemainingColumn(), text, console=console)
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


_OF_IMAGES = "semivit_jax.data."  # loggers


class _Lines(logging.Handler):
    """Prints log messages as `say` does, but on every host; rich's own handler breaks and pads long ones.

    A command that opens the same images again, as a report does at the end of a run, tells their faults once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.name.startswith(_OF_IMAGES):
            if line in self.told:
                return
            self.told.add(line)
        console.print(line, soft_wrap=True, markup=False)


def show_warnings() -> None:
    """Lets the package's own log messages (bad images, hosts that are waited for) reach people, one line each."""
    log = logging.getLogger("semivit_jax")
    if not log.handlers:
        log.addHandler(_Lines())
        log.setLevel(logging.INFO)
        log.propagate = False
    for handler in log.handlers:
        if isinstance(handler, _Lines):
            handler.told.clear()


def say(line: str) -> None:
    """Prints one line, on the first host."""
    if jax.process_index():
        return
    console.print(line, soft_wrap=True, markup=False)
