"""Rules in a whole run of the digits: trained, resumed and told; one of one's own under its name in `RULES`."""

import json
import shutil

import jax
import numpy as np
import pytest

from semivit_jax.stages.rules import RULES, WRAPPERS
from semivit_jax.training import run, summary
from tests.configs import small_config
from tests.decoded import keep_decoded
from tests.e2e.runs import final_arrays, logged
from tests.extending import rule

pytestmark = pytest.mark.xdist_group("rule run")

STEPS, BATCH, UNLABELED = 10, 20, 1397
VALUES = {
    "stages": ("semi",), "model.variant": "vit_test2", "semi.rule.prior": "model",
    "semi.pseudo_mixup": "none", "semi.batch_size": BATCH, "semi.unlabeled_ratio": 1, "semi.warmup_epochs": 0.0,
    "semi.epochs": (STEPS + 0.2) / (UNLABELED // BATCH), "train.eval_every_epochs": 5 / (UNLABELED // BATCH),
    "checkpoint.save_every_steps": 5, "checkpoint.keep": 2, "log.every_steps": 1, "log.tensorboard": False,
    "train.compilation_cache": False,
}  # fmt: skip


RULE = "aligned(steady)"
ASKED = [name for name, row in RULES.items() if "teacher" in row.needs]  # a bank is a file: tests/serve/test_bank.py
FAIR = {"semi.rule.fairness": 0.1, "semi.rule.fairness_images": 0.0}
EVERY_RULE = [
    *((text, {}) for text in (*ASKED, *(f"{name}(flex)" for name in WRAPPERS))),
    ("fixed", {"semi.outliers": "energy"}),
    ("simpro", {"semi.rule.every": 3}),  # stopped within a period
    ("debiased(free)", {"semi.outliers": "energy", **FAIR}),
]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains in a folder by a rule, one of one's own among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(summary, "baselines", lambda task, data: {})
        keep_decoded(patch)
        patch.setitem(RULES, "steady", rule.STEADY)
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time
        yield lambda folder, text, **changes: run.train(
            small_config(**VALUES, **{"semi.pseudo_label_rule": text}, **changes), folder
        )
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(folder, RULE)
    return folder


def test_its_state_is_saved_with_the_run(finished):
    state = final_arrays(finished, "semi")
    last = state["policy_state.rule.last"]
    assert last.shape == (UNLABELED,)
    assert (last >= 0).sum() == STEPS * BATCH  # in half a pass no image comes twice
    assert 0 < state["policy_state.rule.bar"] < 1
    for name in ("policy_state.q", "policy_state.r"):
        np.testing.assert_allclose(state[name].sum(), 1, rtol=1e-5)


def test_its_run_is_told(finished):
    told = json.loads((finished / "summary.json").read_text())["stages"]["semi"]
    assert 0 < told["mask_rate"] < 1
    assert 0 <= told["ema_acc1"] <= 1


def test_a_run_that_stopped_half_way_goes_on_as_if_it_had_not(finished, train, tmp_path):
    assert_goes_on(finished, train, RULE, tmp_path / "resumed")


@pytest.mark.slow  # by default: a rule of one's own above, which remembers images, means and a number
@pytest.mark.parametrize(("text", "changes"), EVERY_RULE)
def test_a_run_of_every_rule_goes_on(text, changes, train, tmp_path):
    train(tmp_path / "finished", text, **changes)
    assert_goes_on(tmp_path / "finished", train, text, tmp_path / "resumed", **changes)


def assert_goes_on(finished, train, text, folder, **changes):
    """Stopped after half of its updates it ends as it did."""
    shutil.copytree(finished, folder)
    for path in ("DONE", "summary.json", "semi/DONE", "semi/report.json"):
        (folder / path).unlink()
    shutil.rmtree(folder / "semi" / "checkpoints" / str(STEPS))
    train(folder, text, **changes)
    assert logged(folder) == logged(finished)
    found, wanted = final_arrays(folder, "semi"), final_arrays(finished, "semi")
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]
