"""Start a stage's state: from its own newest checkpoint, or fresh with earlier weights."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semivit_jax import console
from semivit_jax.checkpoints import class_rows, init_from, reading, recovery, warm_start, whole, workdir
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.checkpoints.warm_start import Crossing, Transfer
from semivit_jax.config import Config, ConfigError, ModelConfig
from semivit_jax.files import Path, write_json
from semivit_jax.hosts import agreement
from semivit_jax.models import tuning
from semivit_jax.models.parting import WHOLE, Parting
from semivit_jax.models.spec import ModelSpec
from semivit_jax.recipes import stored
from semivit_jax.stages import STAGES
from semivit_jax.stages.spec import IMPORT
from semivit_jax.stages.state import TrainState
from semivit_jax.training import compare, guard, head, rollback, writers
from semivit_jax.training.compiled import Compiled, stage_key
from semivit_jax.training.progress import Progress, best_key, facts, fresh_progress
from semivit_jax.training.setup import PyTree, Run
from semivit_jax.weights.folder import is_import, load_class_names, load_imported, load_spec, stored_shapes


class Origin(NamedTuple):
    """Where earlier weights come from.

    Attributes:
      kind: the stage that wrote them, or IMPORT.
      model: whose weights they are.
      class_names: of its outputs, in order; None where nobody stored them.
      config: of the model of the run that trained them; None for an import.
    """

    kind: str
    model: ModelSpec
    class_names: Sequence[str] | None
    config: ModelConfig | None = None

    @property
    def parting(self) -> Parting:
        """Which of the weights were trained."""
        return WHOLE if self.config is None else tuning.parting(self.config, self.model)


class Inherited(NamedTuple):
    """A state with earlier weights, and whether a head for the classes of now came with them."""

    state: TrainState
    own_head: bool


def start_state(run: Run, compiled: Compiled, folder: Path, best: Saver):
    """The newest good checkpoint in a stage's folder, or a fresh state with the previous stage's weights.

    A head that a probe has fitted to these is the first to be kept in `best`.

    Returns:
      (state, progress, restored step or None).
    """
    # The best weights are kept over all starts, so a step that is repeated does not save them again.
    best_facts = recovery.latest_facts(folder / "best", say=console.say)
    best_score = best_facts[best_key(compiled.stage.name)] if best_facts else 0.0
    with console.working(f"{compiled.stage.name}: restoring"):
        restored = recovery.restore_latest(folder / "checkpoints", compiled.target, say=console.say)
    if restored is None:
        inherited = inherit(run, compiled, compiled.init(stage_key(run.config, compiled.stage.name)))
        state, reached = head.start_head(run, compiled, inherited.state, own_head=inherited.own_head)
        progress = fresh_progress(max(best_score, reached))
        if reached > best_score:
            best.save(0, state.weights(), facts(run, compiled.plan, 0, 0, progress))
        return state, progress, None
    stored_facts = restored.facts
    console.say(f"{compiled.stage.name}: continues from step {restored.step}")
    progress = Progress(
        guard.load(stored_facts["history"]),
        writers.Window(stored_facts["window"]),
        writers.Window(stored_facts.get("settled")),  # earlier versions kept none
        writers.Window(stored_facts["last_epoch"]),
        stored_facts["seconds"],
        stored_facts.get("spent", {}),  # which earlier versions did not write
        best_score,
        stored_facts["evaluation"],
        stored_facts.get("forgotten", ""),
    )
    state = rollback.skip_to(restored.state, rollback.position_after(folder, restored.step), compiled)
    return state, progress, restored.step


def inherit(run: Run, compiled: Compiled, state: TrainState) -> Inherited:
    """Weights of the previous stage of this run, or of config.init_from; none leaves the state fresh.

    What they were is written to `started_from.json` of the stage, where it stays when the source changes or goes.
    """
    source = find_source(run, compiled.stage.name)
    if source is None:
        return Inherited(state, own_head=False)
    origin = origin_of(source)
    way = crossing(run, compiled.stage.name, origin)
    if origin.kind == IMPORT:
        state, transfer = inherit_import(source, way, compiled, state, run.config)
    elif origin.config is not None and tuning.same(origin.config, run.config.model):
        state, transfer = inherit_checkpoint(source, way, compiled, state)
    else:
        state, transfer = inherit_whole(source, origin.parting, way, compiled, state, run.config)
    for text in transfer.lines():
        console.say(text)
    if "head.kernel" in transfer.loaded and (
        difference := class_rows.mismatch(origin.class_names, run.task.class_names)
    ):
        console.say(f"warning: the head of {transfer.source} is kept, but {difference}")
    path = run.workdir / compiled.stage.name / "started_from.json"
    record = dataclasses.asdict(transfer)
    agreement.on_first_host(lambda: write_json(path, record | {"files": init_from.contents(source)}))
    same = origin.class_names is None or list(origin.class_names) == list(run.task.class_names)
    return Inherited(state, own_head=bool(transfer.by_class) or (same and "head.kernel" in transfer.loaded))


def check_source(run: Run, stage: str, params: PyTree) -> None:
    """Raises where a stage could not start from what config.init_from names; reads names and shapes alone.

    Args:
      run: with its config.
      stage: of the run. One that goes on, or starts from a stage of this run, reads nothing else.
      params: of the stage's whole model, as shapes.

    Raises:
      ConfigError, CheckpointError: as `inherit` would.
    """
    if workdir.has_checkpoint(run.workdir / stage) or earlier_stages(run, stage):
        return
    if not run.config.init_from:
        if run.config.model.tune != tuning.ALL:
            raise ConfigError(
                f"config.model.tune is {run.config.model.tune!r}, so that most weights would stay as they were drawn; "
                "give config.init_from"
            )
        return
    source = init_from.find(run.config.init_from)
    origin = origin_of(source)
    way = crossing(run, stage, origin)
    available = stored_shapes(source) if is_import(source) else whole.shapes(source, "params", origin.parting)
    named = {way.name(n): a for n, a in available.items()}
    warm_start.plan_transfer(str(source), named, reading.flat(params), way)


def origin_of(source: Path) -> Origin:
    """What a checkpoint, or the folder of an import, says of its weights; no array is read."""
    if is_import(source):
        return Origin(IMPORT, load_spec(source), load_class_names(source))
    stage, facts = source.parent.parent.name, reading.read_facts(source)
    names = facts["class_names"]
    config = stored.check_stored(facts["config"])
    return Origin(stage, STAGES[stage].model(config, len(names)), names, config.model)


def inherit_checkpoint(
    source: Path, way: Crossing, compiled: Compiled, state: TrainState
) -> tuple[TrainState, Transfer]:
    """Weights of an earlier stage that trained the same; the teacher starts from their average where they have one."""
    places = jax.tree.map(lambda leaf: leaf.sharding, compiled.target.params)
    params, transfer = warm_start.from_checkpoint(source, state.params, places, crossing=way, tree="params")
    state = dataclasses.replace(state, params=params)
    if state.frozen is not None:
        of_frozen = jax.tree.map(lambda leaf: leaf.sharding, compiled.target.frozen)
        frozen, shared = warm_start.from_checkpoint(source, state.frozen, of_frozen, crossing=way, tree=whole.FROZEN)
        state, transfer = dataclasses.replace(state, frozen=frozen), transfer.and_also(shared)
    if state.ema_params is not None:
        if any(n.startswith("ema_params.") for n in reading.array_shapes(source)):
            ema_params, _ = warm_start.from_checkpoint(
                source, state.ema_params, places, crossing=way, tree="ema_params"
            )
        else:
            ema_params = jax.tree.map(jnp.copy, params)
        state = dataclasses.replace(state, ema_params=ema_params)
    return state, transfer


def inherit_whole(
    source: Path, parting: Parting, way: Crossing, compiled: Compiled, state: TrainState, config: Config
) -> tuple[TrainState, Transfer]:
    """Weights of a run that trained another part of its model; they are joined, and parted anew."""
    theirs = {tree: jax.device_get(whole.read(source, tree, parting)) for tree in whole.trees(source)}
    return _inherit_arrays(theirs["params"], theirs.get("ema_params"), str(source), way, compiled, state, config)


def inherit_import(
    folder: Path, way: Crossing, compiled: Compiled, state: TrainState, config: Config
) -> tuple[TrainState, Transfer]:
    """Weights that `semivit import` wrote."""
    imported = load_imported(folder)
    source = f"{folder} ({imported.weights.spec.variant})"
    return _inherit_arrays(imported.weights.params, imported.ema_params, source, way, compiled, state, config)


def _inherit_arrays(
    theirs: PyTree,
    average: PyTree | None,
    source: str,
    way: Crossing,
    compiled: Compiled,
    state: TrainState,
    config: Config,
) -> tuple[TrainState, Transfer]:
    """Arrays of a whole model; the teacher as in `inherit_checkpoint`, unless it shares what is frozen with them."""
    params = state.params if state.frozen is None else compiled.whole(state.params, state.frozen)
    described = compiled.target.params if state.frozen is None else params
    places = jax.tree.map(lambda leaf: leaf.sharding, described)
    params, transfer = warm_start.from_arrays(theirs, params, places, crossing=way, source=source)
    if state.frozen is not None:
        # What is frozen is one copy, of the weights, with which the trained part of an average does not belong.
        params, frozen = compiled.split(params, stage_key(config, compiled.stage.name))
        state, average = dataclasses.replace(state, frozen=frozen), None
    state = dataclasses.replace(state, params=params)
    if state.ema_params is None:
        return state, transfer
    ema_params = jax.tree.map(jnp.copy, params)
    if average is not None:
        ema_params, _ = warm_start.from_arrays(average, state.ema_params, places, crossing=way, source=source)
    return dataclasses.replace(state, ema_params=ema_params), transfer


def crossing(run: Run, stage: str, origin: Origin) -> Crossing:
    """The way from earlier weights to the model of a stage.

    Raises:
      CheckpointError: the stage does not start from there. ConfigError: config.data.renamed does not fit the names.
    """
    spec, ours = STAGES[stage], run.task.class_names
    if origin.kind not in spec.starts_from:
        legal = ", ".join(spec.starts_from)
        raise reading.CheckpointError(
            f"cannot start from earlier weights: stage {stage} does not start from {origin.kind}, but from {legal}"
        )
    # The stages of this run know the classes by the names of now.
    renamed = "" if earlier_stages(run, stage) else run.config.data.renamed
    rows = class_rows.match(origin.class_names, ours, renamed) if origin.model.num_classes else None
    return Crossing(spec.starts_from[origin.kind], origin.model, spec.model(run.config, len(ours)), rows)


def earlier_stages(run: Run, stage: str) -> list[str]:
    """Stages of this run that come before `stage`."""
    stages = run.config.stages
    return list(stages[: stages.index(stage)])


def find_source(run: Run, stage: str) -> Path | None:
    """Newest good checkpoint of the stage before in this run, else what config.init_from names, if anything.

    Where validation images say that the stage before ended below better weights of this run, it is these.
    """
    here = earlier_stages(run, stage)
    better = compare.better_start(run, here) if here else None
    if better is not None:
        console.say(f"{stage}: starts from {better}, since {here[-1]} ended below it on the validation images")
        return better.checkpoint
    if here:
        found = reading.newest_good(run.workdir / here[-1] / "checkpoints")
        if found is None:
            raise reading.CheckpointError(f"stage {here[-1]} of {run.workdir} has no good checkpoint to start from")
        return found
    return init_from.find(run.config.init_from) if run.config.init_from else None
