"""The state a stage starts from: its own newest checkpoint, or fresh with earlier weights."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from semivit_jax import checkpoint, class_names, guard, logs, rollback, warm_start, workdir
from semivit_jax.checkpoint import Checkpoints
from semivit_jax.compiled import Compiled, stage_key
from semivit_jax.config import Config, ConfigError
from semivit_jax.progress import Progress, fresh_progress
from semivit_jax.setup_stage import Run
from semivit_jax.state import TrainState
from semivit_jax.warm_start import Transfer
from semivit_jax.weights.folder import is_import, load_imported


def start_state(run: Run, compiled: Compiled, checkpoints: Checkpoints, best: Checkpoints, folder: Path):
    """The newest good checkpoint, or a fresh state with the previous stage's weights.

    Returns:
      (state, progress, restored step or None).
    """
    # The best weights are kept over all starts, so a step that is repeated does not save them again.
    best_facts = best.latest_facts()
    best_acc1 = best_facts["best_acc1"] if best_facts else 0.0
    restored = checkpoints.restore_latest(compiled.target)
    if restored is None:
        state = compiled.init(stage_key(run.config, compiled.stage.name))
        return inherit(run, compiled, state), fresh_progress(best_acc1), None
    facts = restored.facts
    logs.say(f"{compiled.stage.name}: continues from step {restored.step}")
    progress = Progress(
        guard.load(facts["history"]),
        logs.Window(facts["window"]),
        logs.Window(facts["last_epoch"]),
        facts["seconds"],
        best_acc1,
        facts["evaluation"],
    )
    state = rollback.skip_to(restored.state, rollback.position_after(folder, restored.step), compiled)
    return state, progress, restored.step


def inherit(run: Run, compiled: Compiled, state: TrainState) -> TrainState:
    """Weights of the previous stage of this run, or of config.init_from; none leaves the state fresh."""
    origin = Path(run.config.init_from)
    if not earlier_stages(run, compiled.stage.name) and run.config.init_from and is_import(origin):
        return inherit_import(run, origin, compiled, state)
    source = find_source(run, compiled.stage.name)
    if source is None:
        return state
    from_stage = source.parent.parent.name
    places = jax.tree.map(lambda leaf: leaf.sharding, compiled.target.params)
    params, transfer = warm_start.from_checkpoint(source, state.params, places, from_stage=from_stage, tree="params")
    _tell(transfer, checkpoint.read_facts(source)["class_names"], run)
    state = dataclasses.replace(state, params=params)
    if state.ema_params is None:
        return state
    if any(n.startswith("ema_params.") for n in checkpoint.array_shapes(source)):
        ema_params, _ = warm_start.from_checkpoint(
            source, state.ema_params, places, from_stage=from_stage, tree="ema_params"
        )
    else:
        ema_params = jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, ema_params=ema_params)


def inherit_import(run: Run, folder: Path, compiled: Compiled, state: TrainState) -> TrainState:
    """Weights that `semivit import` wrote; the teacher starts from their average where they have one."""
    imported = load_imported(folder)
    places = jax.tree.map(lambda leaf: leaf.sharding, compiled.target.params)
    source = f"{folder} ({imported.facts.variant})"
    params, transfer = warm_start.from_arrays(imported.params, state.params, places, source=source)
    _tell(transfer, imported.class_names, run)
    state = dataclasses.replace(state, params=params)
    if state.ema_params is None:
        return state
    if imported.ema_params is not None:
        ema_params, _ = warm_start.from_arrays(imported.ema_params, state.ema_params, places, source=source)
    else:
        ema_params = jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, ema_params=ema_params)


def _tell(transfer: Transfer, names: Sequence[str] | None, run: Run) -> None:
    """What became of every tensor, with a warning where a head made for other classes was kept."""
    for text in transfer.lines():
        logs.say(text)
    if "head.kernel" in transfer.loaded and (difference := class_names.mismatch(names, run.task.class_names)):
        logs.say(f"warning: the head of {transfer.source} is kept, but {difference}")


def earlier_stages(run: Run, stage: str) -> list[str]:
    """Stages of this run that come before `stage`."""
    earlier = workdir.STAGE_ORDER[: workdir.STAGE_ORDER.index(stage)]
    return [s for s in earlier if s in run.config.stages]


def find_source(run: Run, stage: str) -> Path | None:
    """Newest good checkpoint of the stage before, here or in the workdir that config.init_from names."""
    here = earlier_stages(run, stage)
    if here:
        found = checkpoint.newest_good(run.workdir / here[-1] / "checkpoints")
        if found is None:
            raise checkpoint.CheckpointError(f"stage {here[-1]} of {run.workdir} has no good checkpoint to start from")
        return found
    if not run.config.init_from:
        return None
    origin = _run_to_start_from(run.config.init_from)
    found = checkpoint.newest_good(origin / workdir.latest_stage(origin) / "checkpoints")
    if found is None:
        raise checkpoint.CheckpointError(f"config.init_from {origin} has no good checkpoint")
    return found


def check_init_from(config: Config, folder: Path) -> None:
    """Before anything else is done: whether what config.init_from names can be started from.

    A run that has a checkpoint of its first stage needs it no more, and may outlive it.

    Raises:
      ConfigError: it is neither imported weights nor a run with a checkpoint.
    """
    started = any((folder / config.stages[0] / "checkpoints").glob("*/MANIFEST.json"))
    if not config.init_from or started or is_import(config.init_from):
        return
    origin = _run_to_start_from(config.init_from)
    try:
        workdir.latest_stage(origin)
    except ConfigError as error:
        raise ConfigError(f"config.init_from: {error}, nor imported weights") from error


def _run_to_start_from(init_from: str) -> Path:
    """The folder that config.init_from names, if it is one."""
    if not Path(init_from).is_dir():
        raise ConfigError(
            f"config.init_from {init_from} is not a folder; it names another run, or what "
            "`semivit import SOURCE --model MODEL --out FOLDER` has written"
        )
    return Path(init_from)
