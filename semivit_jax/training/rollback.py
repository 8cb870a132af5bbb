"""Roll back after a collapse: write down which batches are skipped, then go on."""

import dataclasses

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import recovery
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.hosts import agreement
from semivit_jax.stages.state import TrainState
from semivit_jax.training.compiled import Compiled
from semivit_jax.training.setup import Run
from semivit_jax.words import counted


class Collapsed(RuntimeError):
    """The guard stopped the run; the message says what happened, since when, and what is still good."""

    def __init__(self, message: str, *, healthy_until: int):
        super().__init__(message)
        self.healthy_until = healthy_until


def record(run: Run, folder: Path, collapse: Collapsed, *, position: int) -> None:
    """Goes back to the last checkpoint from before the collapse, and notes that reading goes on at `position`.

    Every save must be sealed. Newer checkpoints, and newer best weights, are set aside: their steps will be
    trained again.

    Raises:
      Collapsed: the config says stop, there is nothing to go back to, or it was tried often enough; with
        the whole story.
    """
    config = run.config.train
    step = recovery.newest_healthy(folder / "checkpoints", collapse.healthy_until)
    # The first host counts before it writes; the others read the file only after it has.
    tried = agreement.from_first_host(len(_entries(folder)))
    story = f"{folder.name}: {collapse}; {_told(step, collapse)}, in {folder / 'checkpoints'}; nothing was overwritten"
    if tried and config.on_collapse == "rollback":
        story += f"; rolled back {counted(tried, 'time')} before"
    if config.on_collapse == "stop" or step is None or tried >= config.max_rollbacks:
        raise Collapsed(story, healthy_until=collapse.healthy_until) from collapse
    recovery.set_aside_after(folder / "checkpoints", step)
    recovery.set_aside_after(folder / "best", step)
    entry = {"step": step, "position": position, "reason": str(collapse)}
    agreement.on_first_host(lambda: write_json(_path(folder), [*_entries(folder), entry]))
    console.say(f"{story}; going back to it and reading on from batch {position}")


def position_after(folder: Path, step: int) -> int | None:
    """Where the latest rollback to this step reads on, the same on every host; None where there was none."""
    found = next((e["position"] for e in reversed(_entries(folder)) if e["step"] == step), None)
    found = agreement.from_first_host(-1 if found is None else found)
    return None if found == -1 else found


def skip_to(state: TrainState, position: int | None, compiled: Compiled) -> TrainState:
    """Moves the position on, never back; step and weights stay.

    A state that has read further was saved after another rollback, to an earlier step, had replaced this one.
    """
    if position is None or position <= int(state.position):
        return state
    moved = jax.device_put(np.int32(position), compiled.target.position.sharding)
    return dataclasses.replace(state, position=moved)


def _told(step: int | None, collapse: Collapsed) -> str:
    if step is None:
        return "no good checkpoint exists yet"
    if step > collapse.healthy_until:
        return f"no checkpoint is left from before; the oldest good one is step {step}"
    return f"the last good checkpoint is step {step}"


def _entries(folder: Path) -> list[dict]:
    path = _path(folder)
    return read_json(path) if path.exists() else []


def _path(folder: Path) -> Path:
    return folder / "rollbacks.json"
