"""Set up a stage before its first step: the Run it belongs to, its plan, and its batches."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from semivit_jax import console
from semivit_jax.config import Config
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.feature_rows import FeatureTable
from semivit_jax.data.pipeline import TrainBatches, train_batches
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.hosts import agreement
from semivit_jax.hosts.stopping import StopRequest
from semivit_jax.plan import Plan, to_dict
from semivit_jax.recipes.planning import fit_batch, make_plan
from semivit_jax.stages.state import told
from semivit_jax.training.compiled import make_stage
from semivit_jax.training.goodput import Book
from semivit_jax.words import counted

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    config: Config
    workdir: Path
    task: TaskData
    mesh: jax.sharding.Mesh
    stop: StopRequest
    book: Book

    @property
    def first_host(self) -> bool:
        return jax.process_index() == 0


def plan_stage(run: Run, name: str) -> Plan:
    """The stage's plan; a restart keeps the stored batch and group size, since draws depend on them."""
    path, counts = _path(run, name), run.task.counts
    stored = read_json(path) if path.exists() else {}
    devices = run.mesh.size
    config, lowered = fit_batch(run.config, name, counts, num_devices=devices, stored=stored.get("batch_size"))
    plan = make_plan(config, name, counts, num_devices=devices, stored_group_size=stored.get("group_size"))
    return dataclasses.replace(plan, deviations=(*lowered, *plan.deviations))


def check_stage(run: Run, plan: Plan) -> PyTree:
    """Makes the stage and describes its state, so that what a model refuses is told before any stage has begun.

    Says how much is trained, where that is not all.

    Nothing is compiled, and no array of the state is made.

    Returns:
      Parameters of its whole model, as shapes.

    Raises:
      ConfigError: names the key.
    """
    stage = make_stage(run.config, plan, run.mesh)
    state = jax.eval_shape(stage.init, jax.random.key(0))
    if tuned := told(state, stage.parting):
        console.say(f"{plan.stage}: trains {tuned}")
    return jax.eval_shape(stage.parting.whole, state.params, state.frozen)


def keep_plan(run: Run, plan: Plan) -> None:
    """Writes the plan beside the stage's checkpoints, and says what it changes in the recipe."""
    agreement.on_first_host(lambda: write_json(_path(run, plan.stage), to_dict(plan)))
    for deviation in plan.deviations:
        console.say(f"{plan.stage}: the recipe is adapted, on {counted(plan.num_devices, 'device')}: {deviation}")


def open_batches(
    run: Run, plan: Plan, position: int, *, features: Mapping[str, Mapping[str, FeatureTable]] | None = None
) -> TrainBatches:
    """This host's batches of a stage, from `position` on; of `features` as `train_batches` takes them."""
    return train_batches(
        run.task,
        run.config.data,
        plan,
        seed=run.config.seed,
        position=position,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        features=features,
    )


def _path(run: Run, stage: str) -> Path:
    return run.workdir / stage / "plan.json"
