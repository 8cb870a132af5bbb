"""A stand-in for the semi stage that takes no time, learns which batches it saw, and fails as planned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.checkpoints import reading
from semivit_jax.ops import metrics, scores
from semivit_jax.ops.metrics import Mean
from semivit_jax.stages.stage import Stage
from semivit_jax.stages.state import TrainState

TOTAL = 20

# Config of a run of the semi stage that is so many steps long, saved after every fourth.
PLANNED = {
    "semi.batch_size": 20, "semi.mixup_group_size": 10, "semi.unlabeled_ratio": 1, "semi.warmup_epochs": 0.0,
    "semi.epochs": (TOTAL + 0.2) / 69, "train.eval_every_epochs": 2 / 69, "train.max_nonfinite_in_a_row": 3,
    "train.collapse_window_steps": 3, "checkpoint.save_every_steps": 4, "checkpoint.keep": 4, "log.every_steps": 1,
    "log.tensorboard": False, "log.report": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Batches, by position, at which something goes wrong."""

    not_finite: range = range(0)
    mask_rate_gone: range = range(0)
    accuracy_gone: range = range(0)
    forgets: tuple[int, ...] = ()  # classes that are never answered, at any time


def stage_with(trouble: Trouble) -> Stage:
    """A stage whose params remember which batches they have seen."""

    def among(position, positions):
        return (position >= positions.start) & (position < positions.stop)

    def init(key):
        params = {"seen": jnp.zeros(64), "acc1": jnp.zeros(())}
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, zero, params, (), jax.tree.map(jnp.copy, params), ())

    def train_step(state, batch, key):
        p = state.position
        dropped = among(p, trouble.not_finite)
        mean = batch["labeled"]["image"].astype(jnp.float32).mean()
        seen = state.params["seen"].at[p].set(jnp.where(dropped, 0.0, mean))
        params = {"seen": seen, "acc1": jnp.where(among(p, trouble.accuracy_gone), 0.1, 0.9)}
        found = {
            "loss": Mean(jnp.where(dropped, jnp.nan, mean), 1.0),
            "mask_rate": Mean(jnp.where(among(p, trouble.mask_rate_gone), 0.0, 0.8), 1.0),
            "pseudo_label_acc": Mean(jnp.zeros(()), jnp.zeros(())),  # no label is known
            "dropped": Mean(dropped.astype(jnp.float32), 1.0),
        }
        ema_params = jax.tree.map(lambda leaf: leaf * 1.0, params)
        return TrainState(state.step + 1, p + 1, params, (), ema_params, ()), found

    def eval_step(params, batch):
        rows = batch["mask"].sum()
        images = jnp.zeros(10).at[batch["label"]].add(batch["mask"])
        answers = images.at[jnp.asarray(trouble.forgets, jnp.int32)].set(0.0)
        return {"acc1": Mean(params["acc1"] * rows, rows), scores.CLASS_ANSWERS: Mean(answers, images)}

    def grade(sums):
        return metrics.compute({"acc1": sums["acc1"]})

    return Stage("semi", init, train_step, eval_step, lambda s: {"val": s.params, "val_ema": s.ema_params}, grade)


def seen_positions(stage_folder):
    """Which batches the final params have learned from."""
    source = reading.newest_good(stage_folder / "checkpoints")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = {"params.seen": jax.ShapeDtypeStruct((64,), "float32", sharding=here)}
    assert reading.read_facts(source)["step"] == TOTAL
    return np.flatnonzero(reading.restore_arrays(source, target)["params.seen"]).tolist()


def good_steps(stage_folder):
    return sorted(int(p.parent.name) for p in (stage_folder / "checkpoints").glob("*/MANIFEST.json"))
