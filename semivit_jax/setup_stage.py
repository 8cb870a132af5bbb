"""What a stage needs before its first step: the run it belongs to, its plan, its compiled functions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from semivit_jax import logs, rng, sharding
from semivit_jax.config import Config
from semivit_jax.data.dataset import TaskData
from semivit_jax.manifest import write_json
from semivit_jax.plan import DataFacts, Plan, make_plan
from semivit_jax.stages import make_stage
from semivit_jax.stages.stage import Stage
from semivit_jax.stopping import StopRequest


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    config: Config
    workdir: Path
    task: TaskData
    mesh: jax.sharding.Mesh
    stop: StopRequest

    @property
    def first_host(self) -> bool:
        return jax.process_index() == 0


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A stage's functions, jitted and placed on the mesh."""

    stage: Stage
    plan: Plan
    target: Any  # described state with shardings
    init: Any
    train_step: Any
    eval_step: Any


def plan_stage(run: Run, name: str, folder: Path) -> Plan:
    """The stage's plan; a restart keeps the stored group size, since draws depend on it."""
    split, path = run.task.split, folder / "plan.json"
    facts = DataFacts(len(split.training), len(split.labeled), len(split.unlabeled), len(run.task.class_names))
    stored = json.loads(path.read_text())["group_size"] if path.exists() else None
    plan = make_plan(run.config, name, facts, num_devices=run.mesh.size, stored_group_size=stored)
    if run.first_host:
        write_json(path, dataclasses.asdict(plan))
    for deviation in plan.deviations:
        logs.say(f"{name}: the recipe is adapted to {plan.num_devices} devices: {deviation}")
    return plan


def compile_stage(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Compiled:
    """Describes the state, shards the description, and jits: nothing exists unsharded first."""
    stage = make_stage(config, plan, backend=jax.default_backend())
    described = jax.eval_shape(stage.init, jax.random.key(0))
    places = sharding.state_shardings(mesh, described)
    target = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), described, places)
    everywhere = sharding.replicated(mesh)
    train_step = jax.jit(
        stage.train_step,
        in_shardings=(places, sharding.train_batch(mesh), everywhere),
        out_shardings=(places, everywhere),
        donate_argnums=0,
    )
    eval_step = jax.jit(
        stage.eval_step, in_shardings=(places.params, sharding.eval_batch(mesh)), out_shardings=everywhere
    )
    return Compiled(stage, plan, target, jax.jit(stage.init, out_shardings=places), train_step, eval_step)


def stage_key(config: Config, stage: str) -> jax.Array:
    """Key of a stage; every draw of the stage derives from it."""
    return rng.stream(jax.random.key(config.seed), stage)
