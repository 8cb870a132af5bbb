"""A rule of one's own in a whole run of the digits: trained, resumed and told, under its name in `RULES`."""

import json
import shutil

import jax
import numpy as np
import pytest

from semivit_jax.stages.pseudo_label import RULES
from semivit_jax.training import run, summary
from tests.configs import small_config
from tests.decoded import keep_decoded
from tests.e2e.runs import final_arrays, logged
from tests.extending import rule

pytestmark = pytest.mark.xdist_group("rule run")

STEPS, BATCH, UNLABELED = 10, 20, 1397
VALUES = {
    "stages": ("semi",), "model.variant": "vit_test2", "semi.pseudo_label_rule": "counted",
    "semi.pseudo_mixup": "none", "semi.batch_size": BATCH, "semi.unlabeled_ratio": 1, "semi.warmup_epochs": 0.0,
    "semi.epochs": (STEPS + 0.2) / (UNLABELED // BATCH), "train.eval_every_epochs": 5 / (UNLABELED // BATCH),
    "checkpoint.save_every_steps": 5, "checkpoint.keep": 2, "log.every_steps": 1, "log.tensorboard": False,
    "train.compilation_cache": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains in a folder, with the rule in its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(summary, "baselines", lambda task, data: {})
        keep_decoded(patch)
        patch.setitem(RULES, "counted", rule.COUNTED)
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time
        yield lambda folder: run.train(small_config(**VALUES), folder)
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(folder)
    return folder


def test_its_state_is_saved_with_the_run(finished):
    state = final_arrays(finished, "semi")
    lines = [json.loads(line) for line in (finished / "semi" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["train/mask_rate"] for line in lines if "train/mask_rate" in line]
    assert len(rates) == STEPS
    kept = state["policy_state.kept"]
    assert kept.shape == (UNLABELED,)
    assert 0 < kept.sum() < STEPS * BATCH
    np.testing.assert_allclose(kept.sum(), BATCH * np.sum(rates), rtol=1e-6)
    assert kept.max() == 1  # in half a pass no image comes twice
    np.testing.assert_allclose(state["policy_state.rule.q"].sum(), 1, rtol=1e-5)


def test_its_run_is_told(finished):
    told = json.loads((finished / "summary.json").read_text())["stages"]["semi"]
    assert 0 < told["mask_rate"] < 1
    assert 0 <= told["ema_acc1"] <= 1


def test_a_run_that_stopped_half_way_goes_on_as_if_it_had_not(finished, train, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(finished, folder)
    for path in ("DONE", "summary.json", "semi/DONE", "semi/report.json"):
        (folder / path).unlink()
    shutil.rmtree(folder / "semi" / "checkpoints" / str(STEPS))
    train(folder)
    assert logged(folder) == logged(finished)
    found, wanted = final_arrays(folder, "semi"), final_arrays(finished, "semi")
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]
