"""Write metrics.jsonl: the numbers that resume, report and guard read."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from semivit_jax.files import Lines, Path


class JsonLines:
    """Writes metrics.jsonl, one line per call; a number that is not finite as a string, since JSON has none."""

    def __init__(self, folder: Path, restored_step: int | None):
        self._lines = Lines(
            folder / "metrics.jsonl", lambda old: _up_to(-1 if restored_step is None else restored_step, old)
        )
        self.flush, self.close = self._lines.flush, self._lines.close

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.add(json.dumps({"step": step, **{k: v if np.isfinite(v) else str(v) for k, v in values.items()}}))


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
