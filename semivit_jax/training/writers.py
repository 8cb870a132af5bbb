"""Write a stage's metrics: JSON lines and TensorBoard, with the same numbers as the progress line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from semivit_jax.ops.metrics import Mean


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
