"""What a run tells people: JSON lines, TensorBoard, and one line of progress, all with the same numbers."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Set
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from semivit_jax.ops.metrics import Mean

# Long tables and warnings must not be cut where output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)


class Window:
    """Sums and counts of metrics since the last reset; survives a restart as plain numbers."""

    def __init__(self, stored: Mapping[str, list[float]] | None = None):
        self._sums = {k: (float(total), float(count)) for k, (total, count) in (stored or {}).items()}

    def add(self, found: Mapping[str, Mean]) -> None:
        """Adds one update's metrics, micro-steps summed.

        A sum that is not finite is left out, so that a dropped update does not spoil the means of the others;
        the guard counts it.
        """
        for key, metric in found.items():
            added, more = float(np.sum(metric.total)), float(np.sum(metric.count))
            if not np.isfinite(added):
                continue
            total, count = self._sums.get(key, (0.0, 0.0))
            self._sums[key] = (total + added, count + more)

    def means(self) -> dict[str, float]:
        """Divides once; an empty mean is 0."""
        return {k: total / count if count else 0.0 for k, (total, count) in self._sums.items()}

    def empty(self) -> frozenset[str]:
        """Metrics whose mean is of nothing, such as the accuracy of pseudo labels when none was kept."""
        return frozenset(k for k, (_, count) in self._sums.items() if not count)

    def state(self) -> dict[str, list[float]]:
        return {k: [total, count] for k, (total, count) in self._sums.items()}

    def reset(self) -> None:
        self._sums = {}


class MetricWriter:
    """Writes a stage's metrics.jsonl and TensorBoard files; a silent one on all hosts but the first."""

    def __init__(self, folder: Path, *, active: bool, tensorboard: bool, restored_step: int | None):
        """Args: restored_step, lines after it are removed; None where the stage starts."""
        self._path = folder / "metrics.jsonl"
        self._active, self._board = active, None
        if not active:
            return
        _truncate_after(self._path, -1 if restored_step is None else restored_step)
        # Unbuffered: what a full disk refuses must not come up again, nameless, when the file is closed.
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the writer
        if tensorboard:
            purge = None if restored_step is None else restored_step + 1
            self._board = SummaryWriter(str(folder / "tb"), purge_step=purge)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; a number that is not finite is written as a string, since JSON has none."""
        if not self._active:
            return
        line = {"step": step, **{k: v if np.isfinite(v) else str(v) for k, v in values.items()}}
        rest = (json.dumps(line) + "\n").encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:  # which does not know its file
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        if self._active:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _truncate_after(path: Path, step: int) -> None:
    """Removes lines after `step`, by rename; a half-written last line goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if entry["step"] <= step:
            kept.append(line)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{line}\n" for line in kept))
    os.replace(temporary, path)


class ProgressLine:
    """A bar on a terminal; elsewhere a plain line, at most one every few seconds."""

    SECONDS_BETWEEN_PLAIN_LINES = 10.0

    def __init__(self, stage: str, total_steps: int, *, active: bool):
        self._stage, self._total, self._active = stage, total_steps, active
        self._bar, self._last = None, 0.0
        if active and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console)
            self._bar.start()
            self._task = self._bar.add_task(stage, total=total_steps, text="")

    def show(self, step: int, values: Mapping[str, float], *, undefined: Set[str] = frozenset()) -> None:
        """Shows the step and the numbers just logged, but for the `undefined` ones."""
        if not self._active:
            return
        shown = [words.format(values[k]) for k, words in _SHOWN.items() if k in values and k not in undefined]
        text = "  ".join(shown)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif time.monotonic() - self._last >= self.SECONDS_BETWEEN_PLAIN_LINES or step >= self._total:
            self._last = time.monotonic()
            say(f"{self._stage} {step}/{self._total}  {text}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


_SHOWN = {
    "train/loss": "loss {:.4g}",
    "train/mask_rate": "mask_rate {:.1%}",
    "train/pseudo_label_acc": "pseudo_label_acc {:.1%}",
    "val/acc1": "val/acc1 {:.1%}",
    "val_ema/acc1": "val_ema/acc1 {:.1%}",
    "perf/images_per_sec": "{:,.1f} images/s",
}


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
