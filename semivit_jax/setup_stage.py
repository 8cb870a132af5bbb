"""What a stage needs before its first step: the run it belongs to, and its plan."""

import dataclasses
import json
from pathlib import Path

import jax

from semivit_jax import cluster, logs
from semivit_jax.config import Config
from semivit_jax.data.dataset import TaskData
from semivit_jax.manifest import write_json
from semivit_jax.plan import DataFacts, Plan, make_plan
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


def plan_stage(run: Run, name: str) -> Plan:
    """The stage's plan; a restart keeps the stored group size, since draws depend on it."""
    split, path = run.task.split, _path(run, name)
    facts = DataFacts(len(split.training), len(split.labeled), len(split.unlabeled), len(run.task.class_names))
    stored = json.loads(path.read_text())["group_size"] if path.exists() else None
    return make_plan(run.config, name, facts, num_devices=run.mesh.size, stored_group_size=stored)


def keep_plan(run: Run, plan: Plan) -> None:
    """Writes the plan beside the stage's checkpoints, and says what it changes in the recipe."""
    cluster.on_first_host(lambda: write_json(_path(run, plan.stage), dataclasses.asdict(plan)))
    for deviation in plan.deviations:
        logs.say(f"{plan.stage}: the recipe is adapted to {plan.num_devices} devices: {deviation}")


def _path(run: Run, stage: str) -> Path:
    return run.workdir / stage / "plan.json"
