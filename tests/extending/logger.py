"""A logger of one's own: the training loss as a table, loss.csv in the stage's folder, a line `step,loss` each.

One line makes it a word of config.log.writers: WRITERS["loss_csv"] = LOSS_CSV.
"""

from collections.abc import Mapping, Sequence

from semivit_jax.files import Lines, Path
from semivit_jax.training.loggers.spec import Row


class LossCsv:
    """Writes the loss of every step that is logged; one that is evaluated alone has none."""

    def __init__(self, folder: Path, restored_step: int | None):
        self._lines = Lines(folder / "loss.csv", lambda old: up_to(restored_step or 0, old))
        self.flush, self.close = self._lines.flush, self._lines.close

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if "train/loss" in values:
            self._lines.add(f"{step},{values['train/loss']!r}")


def up_to(step: int, lines: Sequence[str]) -> list[str]:
    """Lines of that step and before; steps count from 1, and a line that was cut off is of a later one."""
    return [line for line in lines if "," in line and int(line.partition(",")[0]) <= step]


LOSS_CSV = Row(LossCsv)
