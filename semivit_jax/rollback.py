"""Rolling back after a collapse: which batches are skipped is written down before going on."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from semivit_jax import logs
from semivit_jax.checkpoint import Checkpoints
from semivit_jax.compiled import Compiled
from semivit_jax.manifest import write_json
from semivit_jax.setup_stage import Run
from semivit_jax.state import TrainState


class Collapsed(RuntimeError):
    """The guard stopped the run; the message says what happened, since when, and what is still good."""


def record(run: Run, folder: Path, checkpoints: Checkpoints, collapse: Collapsed, *, position: int) -> None:
    """Notes that the stage goes back to its last good checkpoint and reads on from `position`.

    Raises:
      Collapsed: the config says stop, there is nothing to go back to, or it was tried often enough; with
        the whole story.
    """
    config, entries = run.config.train, _entries(folder)
    step = checkpoints.latest_good_step()
    good = "no good checkpoint exists yet" if step is None else f"the last good checkpoint is step {step}"
    story = f"{folder.name}: {collapse}; {good}, in {folder / 'checkpoints'}; nothing was overwritten"
    if config.on_collapse == "stop" or step is None:
        raise Collapsed(story) from collapse
    if len(entries) >= config.max_rollbacks:
        raise Collapsed(f"{story}; {len(entries)} rollbacks did not help, giving up") from collapse
    if run.first_host:
        write_json(_path(folder), [*entries, {"step": step, "position": position, "reason": str(collapse)}])
    logs.say(f"{story}; going back to it and reading on from batch {position}")


def position_after(folder: Path, step: int) -> int | None:
    """Where the latest rollback to this step reads on; None where there was none."""
    return next((e["position"] for e in reversed(_entries(folder)) if e["step"] == step), None)


def skip_to(state: TrainState, position: int | None, compiled: Compiled) -> TrainState:
    """Moves the position on; step and weights stay."""
    if position is None:
        return state
    moved = jax.device_put(np.int32(position), compiled.target.position.sharding)
    return dataclasses.replace(state, position=moved)


def _entries(folder: Path) -> list[dict]:
    path = _path(folder)
    return json.loads(path.read_text()) if path.exists() else []


def _path(folder: Path) -> Path:
    return folder / "rollbacks.json"
