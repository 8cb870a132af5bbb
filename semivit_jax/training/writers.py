"""Write a stage's metrics, with the same numbers as the progress line: the table of loggers, and those of a run."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from semivit_jax.config import ConfigError, LogConfig
from semivit_jax.files import Path
from semivit_jax.hosts import extras
from semivit_jax.ops.metrics import Mean
from semivit_jax.training.loggers.aside import Aside
from semivit_jax.training.loggers.json_lines import JsonLines
from semivit_jax.training.loggers.mlflow_run import MlflowRun
from semivit_jax.training.loggers.spec import Row, Writer
from semivit_jax.training.loggers.tensorboard import TensorBoard
from semivit_jax.training.loggers.trackio_run import TrackioRun
from semivit_jax.training.loggers.wandb_run import WandbRun


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


WRITERS: dict[str, Row] = {
    "jsonl": Row(JsonLines, essential=True),
    "tensorboard": Row(TensorBoard),
    "wandb": Row(WandbRun, extra="wandb"),
    "mlflow": Row(MlflowRun, extra="mlflow"),
    "trackio": Row(TrackioRun, extra="trackio"),
}


def check_words(log: LogConfig) -> None:
    """Raises ConfigError where config.log.writers names what is no logger, or leaves out what every run needs."""
    key = "config.log.writers"
    for name in log.writers:
        if name not in WRITERS:
            raise ConfigError(f"{key} names {name!r}; legal are {', '.join(WRITERS)}")
        if log.writers.count(name) > 1:
            raise ConfigError(f"{key} names {name!r} twice")
    for name, row in WRITERS.items():
        if row.essential and name not in log.writers:
            raise ConfigError(f"{key} is {log.writers}; {name!r} cannot be left out, since runs go on from it")


def check_installed(log: LogConfig) -> None:
    """Raises ConfigError where what a logger imports is not installed here; names the extra."""
    for name in named(log):
        if (extra := WRITERS[name].extra) and not extras.installed(extra):
            raise ConfigError(
                f"config.log.writers names {name!r}; install the extra [{extra}]: {extras.install_line(extra)}"
            )


def named(log: LogConfig) -> list[str]:
    """The loggers of a run, in the order of the config."""
    return [name for name in log.writers if name != "tensorboard" or log.tensorboard]


@dataclasses.dataclass(frozen=True)
class Several:
    """A stage's loggers; none on all hosts but the first.

    Attributes:
      essential: are written to at once.
      others: are written to in threads.
    """

    essential: tuple[Writer, ...]
    others: tuple[Aside, ...]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for writer in (*self.essential, *self.others):
            writer.write(step, values)

    def flush(self) -> None:
        for writer in (*self.essential, *self.others):
            writer.flush()

    def close(self) -> None:
        for writer in self.others:  # all are told before one is waited for
            writer.end()
        for writer in (*self.essential, *self.others):
            writer.close()


def open_writers(folder: Path, log: LogConfig, *, active: bool, restored_step: int | None) -> Several:
    """The loggers of a stage.

    Args:
      folder: of the stage.
      log: says which.
      active: whether this host writes at all.
      restored_step: that the stage goes on from; None where it starts.
    """
    rows = {name: WRITERS[name] for name in named(log)} if active else {}
    return Several(
        essential=tuple(row.open(folder, restored_step) for row in rows.values() if row.essential),
        others=tuple(
            Aside(name, functools.partial(row.open, folder, restored_step))
            for name, row in rows.items()
            if not row.essential
        ),
    )
