"""Jit a stage's functions and place them on the mesh; the only place for jit and donation."""

import dataclasses
from typing import Any

import jax

from semivit_jax.config import Config
from semivit_jax.models.gather import where_weights_live
from semivit_jax.ops import rng
from semivit_jax.plan import Plan
from semivit_jax.stages import make_stage
from semivit_jax.stages.stage import Stage
from semivit_jax.training import sharding

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A stage's functions, jitted and placed on the mesh."""

    stage: Stage
    plan: Plan
    target: Any  # described state with shardings
    init: Any
    train_step: Any
    eval_step: Any
    whole: Any  # (params, frozen) -> those of the whole model
    split: Any  # (parameters of the whole model, key of the stage) -> (params, frozen)


def compile_stage(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Compiled:
    """Describes the state, shards the description, and jits: nothing exists unsharded first."""
    # The mesh's own platform, not the process's: a step is also compiled for slices that are elsewhere.
    stage = make_stage(config, plan, backend=mesh.devices.flat[0].platform)
    described = jax.eval_shape(stage.init, jax.random.key(0))
    places = sharding.state_shardings(mesh, described)
    target = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), described, places)
    everywhere = sharding.replicated(mesh)

    def train_step(state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        with where_weights_live(mesh):
            return stage.train_step(state, batch, key)

    def eval_step(params: PyTree, batch: PyTree) -> PyTree:
        with where_weights_live(mesh):
            return stage.eval_step(params, batch)

    jitted_train_step = jax.jit(
        train_step,
        in_shardings=(places, sharding.train_batch(mesh), everywhere),
        out_shardings=(places, everywhere),
        donate_argnums=0,
    )
    jitted_eval_step = jax.jit(
        eval_step, in_shardings=(places.model(places.params), sharding.eval_batch(mesh)), out_shardings=everywhere
    )
    init = jax.jit(stage.init, out_shardings=places)
    of_whole = sharding.state_shardings(mesh, jax.eval_shape(stage.parting.whole, described.params, described.frozen))
    whole = jax.jit(stage.parting.whole, out_shardings=of_whole)
    split = jax.jit(lambda *given: tuple(stage.parting.split(*given)), out_shardings=(places.params, places.frozen))
    return Compiled(stage, plan, target, init, jitted_train_step, jitted_eval_step, whole, split)


def stage_key(config: Config, stage: str) -> jax.Array:
    """Key of a stage; every draw of the stage derives from it."""
    return rng.stream(jax.random.key(config.seed), stage)
