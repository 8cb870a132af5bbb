"""Print lines, tables and progress for people, on the first host."""

import logging
import os
import sys
import time
from collections.abc import Mapping, Set
from typing import Any, TextIO, cast

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class _StandardOutput:
    """Standard output, whichever it is at the moment, for all that people read.

    Signs that its encoding lacks are written as escapes: names of photos and classes hold any. What comes after its
    reader has left, or where there is none, is lost, and ends no run.
    """

    def write(self, text: str) -> int:
        out = _stream()
        encoding = getattr(out, "encoding", None) or "utf-8"
        try:
            out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            _read_by_nobody(out)
        return len(text)

    def flush(self) -> None:
        out = _stream()
        try:
            out.flush()
        except BrokenPipeError:
            _read_by_nobody(out)

    def __getattr__(self, name: str) -> Any:
        return getattr(_stream(), name)


def _stream() -> TextIO:
    # A bar of rich puts itself in the place of standard output, and writes to us.
    out = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    if out is None:  # the process was started without any
        out = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    return out


def _read_by_nobody(out: TextIO) -> None:
    """Lets all that is still written end nowhere, also what Python flushes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)


standard_output = cast(TextIO, _StandardOutput())
# Long tables and warnings must not be cut where output goes to a file.
console = Console(file=standard_output, width=None if standard_output.isatty() else 140, highlight=False)


class ProgressLine:
    """A bar on a terminal; elsewhere a plain line, at most one every few seconds."""

    SECONDS_BETWEEN_PLAIN_LINES = 10.0

    def __init__(self, title: str, total_steps: int, *, active: bool, shown: Mapping[str, str]):
        """Args: shown, name of a number -> its format, of what is told beside the loss and the speed."""
        self._title, self._total, self._active = title, total_steps, active
        self._shown = {"train/loss": "loss {:.4g}", **shown, "perf/images_per_sec": "{:,.1f} images/s"}
        self._bar, self._last = None, 0.0
        if active and console.is_terminal:
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
        elif time.monotonic() - self._last >= self.SECONDS_BETWEEN_PLAIN_LINES or step >= self._total:
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
