"""Supply a stage with batches: of its images, or of features that are kept of their views."""

import dataclasses
import functools
from collections.abc import Callable

from semivit_jax import console
from semivit_jax.data.eval_pipeline import EvalBatches
from semivit_jax.data.feature_rows import as_decoded
from semivit_jax.data.pipeline import TrainBatches
from semivit_jax.stages.state import TrainState
from semivit_jax.training.compiled import Compiled
from semivit_jax.training.evaluate import batches_of
from semivit_jax.training.setup import Run, open_batches
from semivit_jax.training.view_features import EVALUATION, backbone_of, everything, table
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class Supply:
    """Batches of one host.

    Attributes:
      training: position -> batches from there on.
      evaluation: the evaluation images, for as many passes as there are.
    """

    training: Callable[[int], TrainBatches]
    evaluation: EvalBatches


def open_supply(run: Run, compiled: Compiled, state: TrainState) -> Supply:
    """What a stage reads; features of views that are not kept yet are computed first, with its frozen weights."""
    config, plan, task, decoded, features = run.config, compiled.plan, run.task, None, None
    if config.data.cache_features:
        backbone = backbone_of(run, compiled, state)
        features = {
            stream.name: {
                leaf: table(backbone, row, task.train, getattr(task.split, stream.images)) for leaf, row in stream.views
            }
            for stream in plan.streams
        }
        decoded = as_decoded(table(backbone, EVALUATION, task.eval, everything(task.eval)))
        views = counted(config.data.cache_features, "view")
        console.say(
            f"{plan.stage}: trains on the features of {views} of each image; they mix by mixup, never by cutmix"
        )
    return Supply(
        training=functools.partial(open_batches, run, plan, features=features),
        evaluation=batches_of(task.eval, config, label=plan.label, num_devices=run.mesh.size, decoded=decoded),
    )
