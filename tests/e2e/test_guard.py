"""The guard in the real loop: with a stand-in for the stage whose losses and accuracies go wrong as planned."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax import checkpoint, report, run, train
from semivit_jax.metrics import Mean
from semivit_jax.rollback import Collapsed
from semivit_jax.stages.stage import Stage
from semivit_jax.state import TrainState
from tests.configs import small_config

pytestmark = pytest.mark.xdist_group("runs")

TOTAL = 20


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Batches, by position, at which something goes wrong."""

    not_finite: range = range(0)
    mask_rate_gone: range = range(0)
    accuracy_gone: range = range(0)


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
            "dropped": Mean(dropped.astype(jnp.float32), 1.0),
        }
        ema_params = jax.tree.map(lambda leaf: leaf * 1.0, params)
        return TrainState(state.step + 1, p + 1, params, (), ema_params, ()), found

    def eval_step(params, batch):
        rows = batch["mask"].sum()
        return {"acc1": Mean(params["acc1"] * rows, rows)}

    return Stage("semi", init, train_step, eval_step, lambda s: {"val": s.params, "val_ema": s.ema_params})


@pytest.fixture
def run_semi(machine, tmp_path, monkeypatch):
    """Runs the semi stage with trouble; returns the folder of the stage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    monkeypatch.setattr(report, "digits_baselines", lambda task, data: {})

    def go(trouble, folder=tmp_path, **changes):
        monkeypatch.setattr("semivit_jax.compiled.make_stage", lambda *args, **kwargs: stage_with(trouble))
        values = {
            "stages": ("semi",), "semi.batch_size": 20, "semi.unlabeled_ratio": 1, "semi.warmup_epochs": 0.0,
            "semi.epochs": (TOTAL + 0.2) / 69, "train.eval_every_epochs": 2 / 69, "train.compilation_cache": False,
            "train.max_nonfinite_in_a_row": 3, "train.collapse_window_steps": 3, "checkpoint.save_every_steps": 4,
            "checkpoint.keep": 4, "log.every_steps": 1, "log.tensorboard": False,
        }  # fmt: skip
        run.train(small_config(**(values | changes)), folder)
        return folder / "semi"

    return go


def seen_positions(stage_folder):
    """Which batches the final params have learned from."""
    source = checkpoint.newest_good(stage_folder / "checkpoints")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = {"params.seen": jax.ShapeDtypeStruct((64,), "float32", sharding=here)}
    assert checkpoint.read_facts(source)["step"] == TOTAL
    return np.flatnonzero(checkpoint.restore_arrays(source, target)["params.seen"]).tolist()


def good_steps(stage_folder):
    return sorted(int(p.parent.name) for p in (stage_folder / "checkpoints").glob("*/MANIFEST.json"))


ROLLBACK = {"train.on_collapse": "rollback"}


def test_dropped_updates_are_counted_and_training_goes_on(run_semi):
    folder = run_semi(Trouble(not_finite=range(5, 7)))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    counts = {line["step"]: line["train/dropped_total"] for line in lines if "train/dropped_total" in line}
    assert [counts[step] for step in (5, 6, 7, 8)] == [0, 1, 2, 2]
    assert json.loads((folder / "report.json").read_text())["dropped_updates"] == 2
    assert seen_positions(folder) == [p for p in range(TOTAL) if p not in (5, 6)]


@pytest.mark.parametrize(
    ("trouble", "story", "good"),
    [
        (Trouble(not_finite=range(9, TOTAL)), "not finite in 3 updates in a row, since step 10", 8),
        (Trouble(mask_rate_gone=range(9, TOTAL)), "mask_rate collapsed", 8),
        (Trouble(accuracy_gone=range(9, TOTAL)), "teacher's accuracy collapsed: 0.1000.*low since step 10", 8),
    ],
    ids=["not finite", "mask_rate", "accuracy"],
)
def test_it_stops_says_what_happened_and_overwrites_nothing(run_semi, tmp_path, trouble, story, good):
    with pytest.raises(Collapsed, match=f"{story}.*the last good checkpoint is step {good}.*nothing was overwritten"):
        run_semi(trouble)
    assert good in good_steps(tmp_path / "semi")
    assert not (tmp_path / "semi" / "DONE").exists()


@pytest.mark.parametrize(
    "trouble",
    [Trouble(not_finite=range(9, 12)), Trouble(mask_rate_gone=range(9, 13)), Trouble(accuracy_gone=range(9, 12))],
    ids=["not finite", "mask_rate", "accuracy"],
)
def test_a_rollback_skips_the_span_and_goes_on_from_before_it(run_semi, trouble):
    folder = run_semi(trouble, **ROLLBACK)
    (entry,) = json.loads((folder / "rollbacks.json").read_text())
    assert entry["step"] == 8
    assert seen_positions(folder) == [*range(8), *range(entry["position"], entry["position"] + TOTAL - 8)]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [(line["step"], line["train/position"]) for line in lines if "train/position" in line]
    assert told == [(s, s if s <= 8 else s - 8 + entry["position"]) for s in range(1, TOTAL + 1)]


def test_a_run_that_ends_right_after_a_rollback_goes_on_behind_the_span(run_semi, monkeypatch, tmp_path):
    trouble = Trouble(not_finite=range(9, 12))
    whole = seen_positions(run_semi(trouble, tmp_path / "whole", **ROLLBACK))
    record = train.rollback.record

    def record_and_end(*args, **kwargs):
        record(*args, **kwargs)
        raise SystemExit("killed")

    monkeypatch.setattr(train.rollback, "record", record_and_end)
    with pytest.raises(SystemExit):
        run_semi(trouble, tmp_path / "ended", **ROLLBACK)
    monkeypatch.setattr(train.rollback, "record", record)
    assert seen_positions(run_semi(trouble, tmp_path / "ended", **ROLLBACK)) == whole


def test_rollbacks_that_do_not_help_end(run_semi, tmp_path):
    with pytest.raises(Collapsed, match=r"not finite.*rolled back 2 times before"):
        run_semi(Trouble(not_finite=range(9, 60)), **ROLLBACK, **{"train.max_rollbacks": 2})
    assert good_steps(tmp_path / "semi") == [4, 8]


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(run_semi):
    with pytest.raises(Collapsed, match="no good checkpoint exists yet"):
        run_semi(Trouble(not_finite=range(0, 9)), **ROLLBACK)


def test_the_best_weights_are_kept_apart(run_semi):
    folder = run_semi(Trouble(accuracy_gone=range(0, 5)))
    assert [p.name for p in (folder / "best").iterdir()] == ["6"]
    assert json.loads((folder / "report.json").read_text())["best_acc1"] == pytest.approx(0.9)
