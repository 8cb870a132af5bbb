"""Fit the temperature of a finished stage's last weights on its validation images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import reading, temperatures, whole
from semivit_jax.data.eval_pipeline import eval_batches
from semivit_jax.hosts import agreement
from semivit_jax.models import families, tuning
from semivit_jax.models.spec import PLAIN, ModelSpec
from semivit_jax.ops import temperature
from semivit_jax.ops.temperature import Temperature, log_loss
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.stage import DeviceView, ImageDraws, see
from semivit_jax.training import head
from semivit_jax.training.evaluate import eval_rows
from semivit_jax.training.setup import Run
from semivit_jax.words import counted


def calibrate(run: Run, plan: Plan) -> None:
    """Keeps the temperatures of a stage that ends with classes, once, and tells them.

    Test images are no validation images: a run that is graded on an evaluation split has some only where it also keeps
    back a validation share. Every host works out the same.
    """
    folder = run.workdir / plan.stage
    if (plan.label, STAGES[plan.stage].score) != head.GRADED:
        return
    checkpoint = reading.newest_good(folder / "checkpoints")
    if checkpoint is None or agreement.from_first_host(temperatures.belong_to(checkpoint)):
        return
    found, lines = {}, []
    spec = STAGES[plan.stage].model(run.config, plan.num_classes)
    few = len(run.task.split.validation) < temperature.FEWEST_IMAGES
    for tree in whole.trees(checkpoint):
        if few:
            logits, labels = np.empty((0, plan.num_classes)), run.task.split.validation
        else:
            with console.working(f"{plan.stage}: fitting a temperature"):
                params = whole.read(checkpoint, tree, tuning.parting(run.config.model, spec))
                logits, labels = _logits(run, plan, spec, params)
        found[tree] = temperature.fit(logits, labels)
        lines.append(_told(tree, found[tree], logits, labels))
    agreement.on_first_host(lambda: temperatures.keep(folder, checkpoint, found))
    for line in dict.fromkeys(lines):
        console.say(f"{plan.stage}: {line}")


def _logits(run: Run, plan: Plan, spec: ModelSpec, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, K] and int [n] of the validation images that can be read, on this host's first device."""
    data, device = run.config.data, jax.local_devices()[0]
    network = families.network(spec, PLAIN, 0.0)  # as `semivit predict` computes
    view = DeviceView(data.mean, data.std, data.image_size, None, 0.0, None)

    def step(params: Any, images: jax.Array) -> jax.Array:
        return network.logits(params, see(images, ImageDraws(), view), None).astype(jnp.float32)

    images, compiled = run.task.train.subset(run.task.split.validation), jax.jit(step)
    size = eval_rows(run.config, len(images), num_devices=1)
    batches = eval_batches(images, data, label=plan.label, batch_size=size, process_index=0, process_count=1)
    logits, labels = [], []
    for batch in batches:
        real = batch["mask"] > 0
        logits.append(np.asarray(compiled(params, jax.device_put(batch["image"], device)))[real])
        labels.append(batch["label"][real])
    return np.concatenate(logits), np.concatenate(labels)


def _told(tree: str, found: Temperature, logits: np.ndarray, labels: np.ndarray) -> str:
    if found.missing:
        return f"no temperature, confidences are as the network gives them: {found.missing}"
    before, after = (log_loss(logits, labels, t) for t in (1.0, found.value))
    return (
        f"temperature of {tree} {found.value:.3g}, fitted on {counted(found.images, 'validation image')}: their log "
        f"loss falls from {before:.4f} to {after:.4f}"
    )
