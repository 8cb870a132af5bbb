"""Write a stage's metrics, with the same numbers as the progress line: the table of writers, and JSON lines of ours."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from semivit_jax.config import LogConfig
from semivit_jax.files import GrowingFolder, Lines, Path
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


class Writer(Protocol):
    """Takes a stage's numbers as they come."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of one step; some may not be finite."""
        ...

    def flush(self) -> None:
        """Returns once what was written is kept; called in a thread: a checkpoint must not lack its numbers."""
        ...

    def close(self) -> None: ...


class Row(NamedTuple):
    """A kind of writer.

    Attributes:
      on: whether a run of this config has one.
      open: (folder of the stage, step it goes on from or None) -> one; what it wrote after that step is removed.
    """

    on: Callable[[LogConfig], bool]
    open: Callable[[Path, int | None], Writer]


class JsonLines:
    """Writes metrics.jsonl, one line per call; a number that is not finite as a string, since JSON has none."""

    def __init__(self, folder: Path, restored_step: int | None):
        self._lines = Lines(
            folder / "metrics.jsonl", lambda old: _up_to(-1 if restored_step is None else restored_step, old)
        )
        self.flush, self.close = self._lines.flush, self._lines.close

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.add(json.dumps({"step": step, **{k: v if np.isfinite(v) else str(v) for k, v in values.items()}}))


class TensorBoard:
    """Writes event files into the folder `tb`."""

    def __init__(self, folder: Path, restored_step: int | None):
        from tensorboardX import SummaryWriter  # half a second that a run without it need not wait

        self._grown = GrowingFolder(folder / "tb")
        purge_step = None if restored_step is None else restored_step + 1
        self._board = SummaryWriter(str(self._grown.local), purge_step=purge_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def flush(self) -> None:
        self._board.flush()
        self._grown.flush()

    def close(self) -> None:
        self._board.close()
        self._grown.close()


WRITERS: dict[str, Row] = {
    "jsonl": Row(on=lambda log: True, open=JsonLines),
    "tensorboard": Row(on=lambda log: log.tensorboard, open=TensorBoard),
}


@dataclasses.dataclass(frozen=True)
class Several:
    """Writers that are written to in turn; none on all hosts but the first."""

    writers: tuple[Writer, ...]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self.writers:
            writer.write(step, values)

    def flush(self) -> None:
        for writer in self.writers:
            writer.flush()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def open_writers(folder: Path, log: LogConfig, *, active: bool, restored_step: int | None) -> Several:
    """The writers of a stage.

    Args:
      folder: of the stage.
      log: says which.
      active: whether this host writes at all.
      restored_step: that the stage goes on from; None where it starts.
    """
    rows = [row for row in WRITERS.values() if row.on(log)] if active else []
    return Several(tuple(row.open(folder, restored_step) for row in rows))


def _up_to(step: int, lines: Sequence[str]) -> list[str]:
    """Lines of that step and before; what comes after one that was cut off goes with it."""
    kept = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if entry["step"] <= step:
            kept.append(line)
    return kept
