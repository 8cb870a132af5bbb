"""Find the best weights of a run: those of the stage whose `best` scored highest."""

from collections.abc import Sequence
from typing import NamedTuple

from semivit_jax.checkpoints import reading
from semivit_jax.files import Path
from semivit_jax.stages import STAGES


class Best(NamedTuple):
    """A kept checkpoint, the stage that wrote it, and its score."""

    checkpoint: Path
    stage: str
    score: float

    def __str__(self) -> str:
        return f"step {self.checkpoint.name} of {self.stage} ({100 * self.score:.1f} %)"


def facts_key(stage: str) -> str:
    """Key of the best score in a checkpoint's facts and in the report; of a stage without score an accuracy of 0."""
    return f"best_{STAGES[stage].score or 'acc1'}"


def of_stages(run: Path, stages: Sequence[str]) -> Best | None:
    """The best of what stages of one score kept; of equal ones the latest stage's. None where none kept anything.

    Args:
      run: its folder.
      stages: in their order; those without `best` weights, or graded otherwise than the last, are passed over.
    """
    found = []
    for stage in stages:
        checkpoint = (
            reading.newest_good(run / stage / "best") if STAGES[stage].score == STAGES[stages[-1]].score else None
        )
        if checkpoint is not None:
            found.append(Best(checkpoint, stage, reading.read_facts(checkpoint)[facts_key(stage)]))
    return max(reversed(found), key=lambda best: best.score, default=None)
