"""Jit a stage's functions and place them on the mesh; the only place for jit and donation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semivit_jax.config import Config
from semivit_jax.models import families
from semivit_jax.models.families import Network
from semivit_jax.models.gather import where_weights_live
from semivit_jax.ops import rng
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.stage import DeviceView, ImageDraws, Stage, sample_images, see
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


def make_stage(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Stage:
    """The stage a plan is for, closed over its model and optimizer."""
    # The mesh's own platform, not the process's: a step is also compiled for slices that are elsewhere.
    return STAGES[plan.stage].make(config, plan, mesh.devices.flat[0].platform)


def compile_stage(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Compiled:
    """Describes the state, shards the description, and jits: nothing exists unsharded first."""
    stage = make_stage(config, plan, mesh)
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


def compile_features(config: Config, compiled: Compiled, mesh: jax.sharding.Mesh, params: PyTree) -> Any:
    """What a stage's head reads of images as evaluation sees them, jitted; `params`, of a whole model, are placed.

    Returns:
      (params, batch with 'image', 'label', 'mask') -> (features, label, mask), whole on every device; features are
      float32 [rows, width].
    """
    data, features = config.data, _network(config, compiled.plan, mesh).features
    view = DeviceView(data.mean, data.std, data.image_size, None, 0.0, None)
    places = jax.tree.map(lambda leaf: leaf.sharding, params)

    def features_step(params: PyTree, batch: PyTree) -> PyTree:
        with where_weights_live(mesh):
            seen = features(params, see(batch["image"], ImageDraws(), view)).astype(jnp.float32)
        return seen, batch["label"], batch["mask"]

    return jax.jit(
        features_step, in_shardings=(places, sharding.eval_batch(mesh)), out_shardings=sharding.replicated(mesh)
    )


def compile_views(
    config: Config, compiled: Compiled, mesh: jax.sharding.Mesh, params: PyTree, view: DeviceView, key: jax.Array
) -> Any:
    """What a stage's head reads of views whose draws of the device belong to the image, not to its place in a batch.

    Args:
      config: of the run.
      compiled: the stage.
      mesh: its devices.
      params: of a whole model, placed.
      view: what the device does.
      key: of all its draws.

    Returns:
      (params, views uint8 [rows, size, size, 3], number of each image uint32 [rows], and of its view) -> float32
      [rows, width], whole on every device; jitted.
    """
    features, rows = _network(config, compiled.plan, mesh).features, sharding.eval_batch(mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, params)

    def draw(image: jax.Array, turn: jax.Array) -> ImageDraws:
        own = jax.random.fold_in(jax.random.fold_in(key, image), turn)
        return jax.tree.map(lambda leaf: leaf[0], sample_images(own, 1, view))

    def views_step(params: PyTree, seen: jax.Array, images: jax.Array, turns: jax.Array) -> jax.Array:
        with where_weights_live(mesh):
            return features(params, see(seen, jax.vmap(draw)(images, turns), view)).astype(jnp.float32)

    return jax.jit(views_step, in_shardings=(places, rows, rows, rows), out_shardings=sharding.replicated(mesh))


def feature_width(config: Config, plan: Plan, mesh: jax.sharding.Mesh, params: PyTree) -> int:
    """How many numbers a stage's head reads of an image; `params` are those of a whole model."""
    size = config.data.image_size
    return jax.eval_shape(_network(config, plan, mesh).features, params, jnp.zeros((1, size, size, 3))).shape[1]


def _network(config: Config, plan: Plan, mesh: jax.sharding.Mesh) -> Network:
    """The whole classifier of a stage, in evaluation mode."""
    spec = STAGES[plan.stage].model(config, plan.num_classes)
    return families.network(spec, families.compute(config.model, spec, backend=mesh.devices.flat[0].platform), 0.0)


def key_on_mesh(config: Config, stage: str, mesh: jax.sharding.Mesh) -> jax.Array:
    """`stage_key` on every device; made there by jit, since device_put refuses keys on devices of other hosts."""
    return jax.jit(lambda: stage_key(config, stage), out_shardings=sharding.replicated(mesh))()


def stage_key(config: Config, stage: str) -> jax.Array:
    """Key of a stage; every draw of the stage derives from it."""
    return rng.stream(jax.random.key(config.seed), stage)
