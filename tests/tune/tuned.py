"""Networks and stages of which a part is trained, on the two-block model of the stage tests."""

import functools

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from semivit_jax.models import families, tuning
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.stages import small

TUNES = ("head", "last_1", "lora")
SECTIONS = {"finetune": small.SUPERVISED, "semi": small.SEMI}


def config_of(stage, tune, **changes):
    """Of a stage; `changes` are keys of its section, or dotted ones of the whole config."""
    own = {k if "." in k else f"{stage}.{k}": v for k, v in (SECTIONS[stage] | changes).items()}
    return small_config(**(small.BASE | {"model.tune": tune, "stages": (stage,)} | own))


def network_of(tune, **changes):
    """(network that is tuned so, network of all of it), without stochastic depth."""
    config = config_of("finetune", tune, **changes)
    spec = families.describe(config.model, image_size=small.SIDE, num_classes=10)
    compute = families.compute(config.model, spec, backend="cpu")
    return tuning.network(config.model, spec, compute, 0.0), plain_network(spec, compute)


plain_network = functools.cache(lambda spec, compute: families.network(spec, compute, 0.0))  # one for every tune
program_of = functools.cache(quick_jit)  # of a network's functions, which tests share


@functools.cache
def stage_of(stage, tune, **changes):
    """(config, plan, stage)."""
    config, plan = config_of(stage, tune, **changes), small.stage_plan(stage)
    return config, plan, small.MAKE_STAGE[stage](config, plan, backend="cpu")


@functools.cache
def compiled_step(stage, tune, **changes):
    """`train_step(state, batch, key)`."""
    return quick_jit(stage_of(stage, tune, **changes)[2].train_step)


@functools.cache
def program(stage, tune):
    """The compiled step, for tests that run it and for those that look at it."""
    return compiled_step(stage, tune).lower(state_of(stage, tune), batch_of(stage), small.key()).compile()


def state_of(stage, tune, **changes):
    """In float64, with a head that is not zero and LoRA's second factors as they start; its dicts may be changed."""
    return jax.tree.map(lambda leaf: leaf, _state_of(stage, tune, **changes))


@functools.cache
def _state_of(stage, tune, **changes):
    made = stage_of(stage, tune, **changes)[2]
    state = quick_jit(made.init)(small.key())
    state = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == np.float32 else leaf, state)
    kernel = np.random.default_rng(1).normal(size=state.params["head"]["kernel"].shape)
    for tree in (state.params, state.ema_params):
        tree["head"]["kernel"] = jax.numpy.asarray(kernel)
    return state


def batch_of(stage):
    return small.micro({"finetune": small.labeled_batch, "semi": small.semi_batch}[stage]())


def moved(before, after):
    """Paths of the trained arrays that two states have differently."""
    before, after = flat(jax.device_get(before.params)), flat(jax.device_get(after.params))
    return {path for path, leaf in after.items() if (leaf != before[path]).any()}


def flat(tree):
    return flatten_dict(tree, sep="/")


def widened(tree):
    """The same tree in float64, in NumPy."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), tree)


def scattered(tree, seed):
    """The same tree of other numbers, so that nothing in it is zero."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(generator.normal(0.0, 0.3, leaf.shape), leaf.dtype), tree)
