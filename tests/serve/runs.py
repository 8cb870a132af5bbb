"""Run folders made in a second: a freshly initialised state of the digits recipe, written as a real checkpoint."""

import functools

import jax
import numpy as np

from semivit_jax import config
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.data.dataset import TaskData, open_task
from semivit_jax.files import write_json
from semivit_jax.training import progress
from semivit_jax.training.setup import Run
from tests.configs import small_config, small_plan
from tests.models import autoencoder_of, network_of

TINY = {"model.variant": "vit_test2", "data.image_size": 8}  # one patch: quick to compile


@functools.cache
def digits(**changes) -> TaskData:
    return open_task(small_config(**changes), workdir=None, label_free=("mae",))


def fresh_params(settings, stage, *, num_classes, seed):
    """Drawn wider than for training, so that logits differ from image to image."""
    if stage == "mae":
        model = autoencoder_of(settings)
    else:
        model = network_of(settings, image_size=settings.data.image_size, num_classes=num_classes)
    shapes, generator = jax.eval_shape(model.init, jax.random.key(0)), np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(0.0, 0.2, leaf.shape).astype(np.float32), shapes)


def write_run(folder, *, stage="finetune", keep_ema=True, best=False, **changes):
    """A workdir with one checkpoint of one stage; returns (config, params, ema_params)."""
    settings, task = small_config(**(TINY | changes)), digits()
    params, ema_params = (fresh_params(settings, stage, num_classes=10, seed=seed) for seed in (0, 1))
    folder.mkdir()
    write_json(folder / "config.json", config.to_dict(settings))
    plan = small_plan(stage)
    run = Run(settings, folder, task, None, None, None)
    facts = progress.facts(run, plan, 3, 3, progress.fresh_progress(0.0))
    state = {"params": params} | ({"ema_params": ema_params} if keep_ema else {})
    for holder in ("checkpoints", *(["best"] if best else [])):
        checkpoints = Saver(folder / stage / holder, keep=1)
        state = state if holder == "checkpoints" else jax.tree.map(lambda leaf: 2 * leaf, state)
        checkpoints.save(3, state, facts)
        checkpoints.close()
    return settings, params, ema_params if keep_ema else None
