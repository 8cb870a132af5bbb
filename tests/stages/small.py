"""A two-block model, batches and compiled updates that the stage tests share; all of it in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.stages import finetune, mae, semi, state, supervised
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan

SIDE = 16  # four patches of 8
GROUP = 4
GROUPS = 4
RATIO = 2
BATCH = GROUP * GROUPS
BASE = {"data.image_size": SIDE, "model.variant": "vit_test2"}
SUPERVISED = {
    "drop_path_rate": 0.4, "erase_prob": 0.5, "cutmix_alpha": 1.0, "cutmix_switch_prob": 0.5, "ema_decay": 0.9,
    "warmup_epochs": 0.0,
}  # fmt: skip
SEMI = SUPERVISED | {"unlabeled_ratio": RATIO, "confidence_threshold": 0.5}
KEY = 7


def key():
    return jax.random.key(KEY)


def stage_config(stage, **changes):
    """Drop path, erasing and both mixups on; `changes` are keys of the stage's section."""
    section = {"mae": {}, "finetune": SUPERVISED, "semi": SEMI}[stage] | changes
    return small_config(**BASE, **{f"{stage}.{k}": v for k, v in section.items()})


def stage_plan(stage, accum=1):
    group = 1 if stage == "mae" else GROUP
    ratio = {"unlabeled_ratio": RATIO if stage == "semi" else 0}
    return small_plan(stage, batch_size=BATCH, group_size=group, accum=accum, recipe_accum=1, **ratio)


MAKE_UPDATE = {"mae": mae.make_update, "finetune": finetune.make_update, "semi": semi.make_update}
MAKE_STAGE = {"mae": mae.make, "finetune": finetune.make, "semi": semi.make}


@functools.cache
def compiled_update(stage, accum=1, **changes):
    """`update(state, batch, draws)` of a stage."""
    config, plan = stage_config(stage, **changes), stage_plan(stage, accum)
    return quick_jit(MAKE_UPDATE[stage](config, plan, backend="cpu")[2])


@functools.cache
def compiled_step(stage, accum=1, **changes):
    """`train_step(state, batch, key)` of a stage, draws included."""
    config, plan = stage_config(stage, **changes), stage_plan(stage, accum)
    return quick_jit(MAKE_STAGE[stage](config, plan, backend="cpu").train_step)


@functools.cache
def _sample_semi_draws():
    config, plan = stage_config("semi"), stage_plan("semi")
    model = supervised.build_network(config, config.stage("semi"), plan, backend="cpu")
    return quick_jit(lambda position: semi.sample_draws(config, plan, model, key(), position))


@functools.cache
def semi_draws(position=0):
    """Draws of the update at `position`, in one micro-step."""
    return _sample_semi_draws()(jnp.asarray(position, jnp.int32))


@functools.cache
def _initial_params(stage):
    model = MAKE_UPDATE[stage](stage_config(stage), stage_plan(stage), backend="cpu")[0]
    params = quick_jit(model.init)(key())
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def initial_state(stage, *, teacher_scale=1.0, **changes):
    """State whose teacher has a head `teacher_scale` times as large: 1 is never confident, 1e4 often."""
    created = jax.tree.map(jnp.asarray, _created(stage, **changes))
    if stage == "semi":
        teacher = created.ema_params
        teacher["head"]["kernel"] = teacher["head"]["kernel"] * teacher_scale
    return created


@functools.cache
def _created(stage, **changes):
    """In NumPy, so that whoever gets it has arrays of its own."""
    optimizer = MAKE_UPDATE[stage](stage_config(stage, **changes), stage_plan(stage), backend="cpu")[1]
    made = quick_jit(lambda params: state.create(params, optimizer, keep_ema=stage != "mae"))
    return jax.device_get(made(_initial_params(stage)))


def images(seed, rows):
    """Normalised float images, so that nothing narrows them."""
    return np.random.default_rng(seed).normal(size=(rows, SIDE, SIDE, 3))


def labels(seed, rows):
    return np.random.default_rng(seed).integers(0, 10, rows)


def labeled_batch():
    return {"image": images(1, BATCH), "label": labels(2, BATCH)}


def semi_batch():
    """Rows of one update; see `micro` for the accumulation axis."""
    rows = BATCH * RATIO
    unlabeled = {"weak": images(3, rows), "strong": images(4, rows), "label": labels(5, rows)}
    return {"labeled": labeled_batch(), "unlabeled": unlabeled}


def micro(batch, accum=1):
    """[rows, ...] -> [accum, rows / accum, ...] in every leaf."""
    return jax.tree.map(lambda x: jnp.asarray(x.reshape(accum, -1, *x.shape[1:])), batch)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, rtol=1e-9):
    """Leaf by leaf, relative to each leaf's largest entry."""

    def close(x, y):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-30))

    jax.tree.map(close, a, b)


def largest_change(a, b):
    """Largest absolute difference of two trees."""
    pairs = zip(*(jax.tree.leaves(jax.device_get(tree)) for tree in (a, b)), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)
