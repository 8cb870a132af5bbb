"""A rule of one's own: its formula, and that one line in `RULES` is all a run needs."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.stages import semi
from semivit_jax.stages.pseudo_label import Evidence
from semivit_jax.stages.rules import RULES, WRAPPERS
from tests.compiled import quick_jit
from tests.e2e.runs import ROOT, common_machine
from tests.extending import rule
from tests.stages import small
from tests.stages.rules import POINT_NINE, PROBS, assign, evidence_of, known_of, made
from tests.stages.test_semi import CONFIDENT

RULE = "aligned(steady)"
KEYS = {"pseudo_label_rule": RULE, "rule.prior": "model"}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(RULES, "steady", rule.STEADY)


# Its formula


def steady(evidence, state=None, *, threshold=0.72, **keys):
    return assign(made("steady", known_of([1, 1, 1]), threshold=threshold, **keys), evidence, state=state)


def test_images_of_a_changed_label_are_left_out():
    state, pseudo = steady(evidence_of(np.log(PROBS), image_id=[7, 3, 4, 9]))
    np.testing.assert_array_equal(pseudo.weight, [1, 0, 0, 1])  # 3 and 4 are not sure enough
    assert {i: int(label) for i, label in enumerate(state["last"]) if label >= 0} == {7: 0, 3: 1, 4: 0, 9: 2}
    _, pseudo = steady(evidence_of(np.log(PROBS), image_id=[4, 3, 9, 7]), state=state)
    np.testing.assert_array_equal(pseudo.weight, [1, 0, 0, 0])  # 7 is sure, and was of another class


def test_the_bar_is_how_sure_the_teacher_is_where_it_is_right():
    labeled = evidence_of(np.log(PROBS), labeled=np.log(PROBS[:2]))
    both, none = (labeled._replace(labels=jnp.asarray(labels)) for labels in ([0, 1], [1, 2]))
    state, pseudo = steady(both, threshold=1.0)
    np.testing.assert_allclose(state["bar"], (0.9 + 0.7) / 2)
    np.testing.assert_array_equal(pseudo.weight, PROBS.max(axis=1) >= 0.8)
    after, _ = steady(none, state=state)
    assert after["bar"] == state["bar"]
    after, _ = steady(labeled, state=state, window=POINT_NINE)  # two of four images, the first alone is right
    np.testing.assert_allclose(after["bar"], 0.9**0.5 * 0.8 + (1 - 0.9**0.5) * 0.9, rtol=1e-9)


# In the step


def batch_with_needs():
    batch = small.semi_batch()
    batch["labeled"]["weak"] = small.images(6, small.BATCH)
    batch["unlabeled"]["image_id"] = np.arange(small.BATCH * small.RATIO, dtype=np.int32)[::-1].copy()
    return batch


def first_state():
    """With images that the teacher saw before, some of them in the class that it says now."""
    section, plan = small.stage_config("semi", **KEYS).stage("semi"), small.stage_plan("semi")
    policy_state = semi.make_rule(section, plan).init()
    seen_before = np.arange(plan.counts.unlabeled, dtype=np.int32) % 3 - 1
    policy_state["rule"]["last"] = jnp.asarray(seen_before)
    return small.initial_state("semi", teacher_scale=CONFIDENT).replace(policy_state=policy_state)


def step_of(accum=1):
    return small.compiled_step("semi", accum=accum, **KEYS)


@pytest.mark.slow  # by default: eight devices with four micro-steps below
def test_four_micro_steps_equal_one():
    one = four = first_state()
    for _ in range(2):
        one, found = step_of()(one, small.micro(batch_with_needs()), small.key())
        four, found_four = step_of(4)(four, small.micro(batch_with_needs(), 4), small.key())
    small.assert_close(four.policy_state, one.policy_state)
    small.assert_close(four.params, one.params)
    assert 0 < found["mask_rate"].total.mean() < 1
    np.testing.assert_allclose(found_four["mask_rate"].total.mean(), found["mask_rate"].total.mean(), rtol=1e-9)


def test_the_rule_sees_labeled_images_and_ids():
    state, batch = first_state(), batch_with_needs()
    after, found = step_of()(state, small.micro(batch), small.key())
    config, plan = small.stage_config("semi", **KEYS), small.stage_plan("semi")
    model = semi.supervised.build_network(config, config.stage("semi"), plan, backend="cpu")
    logits = quick_jit(lambda images: model.logits(state.ema_params, images, None))
    evidence = Evidence(
        logits(batch["unlabeled"]["weak"]),
        batch["unlabeled"]["image_id"],
        logits(batch["labeled"]["weak"]),
        batch["labeled"]["label"],
    )
    wanted, pseudo = semi.make_rule(config.stage("semi"), plan).assign(state.policy_state, evidence)
    small.assert_close(after.policy_state, wanted)
    assert len({int(label) for label in wanted["rule"]["last"]}) > 2
    assert 0 < pseudo.weight.mean() <= found["mask_rate"].total  # the larger weight of two counts for their mixture


def test_a_dropped_update_leaves_the_state():
    state, _ = step_of()(first_state(), small.micro(batch_with_needs()), small.key())
    batch = batch_with_needs()
    batch["labeled"]["image"][0] = np.nan
    after, found = step_of()(state, small.micro(batch), small.key())
    assert found["dropped"].total == 1
    small.assert_equal(after.policy_state, state.policy_state)


def test_nothing_is_learned_through_the_teacher_or_the_rule():
    config = small.stage_config("semi", **KEYS)
    update = semi.make_update(config, small.stage_plan("semi"), backend="cpu")[2]
    state, draws = first_state(), small.semi_draws()
    last = state.policy_state["rule"]["last"]

    def loss(ema_params, means):
        policy_state = means | {"rule": {"last": last, "bar": means["rule"]["bar"]}}
        _, found = update(
            state.replace(ema_params=ema_params, policy_state=policy_state), small.micro(batch_with_needs()), draws
        )
        return found["loss_unlabeled"].total.sum()

    means = state.policy_state | {"rule": {"bar": state.policy_state["rule"]["bar"]}}
    gradients = quick_jit(jax.grad(loss, argnums=(0, 1)))(state.ema_params, means)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    """Runs `rule_on_devices` of some rules: {rule: {case: values}}."""
    environ = common_machine(tmp_path_factory.mktemp("machine")).environ(devices=8)
    path = tmp_path_factory.mktemp("devices") / "found.json"

    def run(*rules):
        command = [sys.executable, "-m", "tests.extending.rule_on_devices", str(path), *rules]
        subprocess.run(command, env=environ, cwd=ROOT, check=True)
        return json.loads(path.read_text())

    return run


def assert_eight_devices_equal_one(found):
    wanted = found.pop("1 device")
    assert len(found) == 1
    assert 0 < wanted["mask_rate"] <= 1
    for case, values in found.items():
        assert values.keys() == wanted.keys()
        for name in (n for n in wanted if "confidence_q" not in n):  # quantiles are of each micro-step
            scale = np.abs(wanted[name]).max()
            np.testing.assert_allclose(values[name], wanted[name], rtol=0, atol=1e-9 * scale, err_msg=f"{case}: {name}")


def test_eight_devices_equal_one(on_devices):
    (found,) = on_devices(RULE).values()
    assert found["1 device"]["mask_rate"] < 1
    assert_eight_devices_equal_one(found)


@pytest.mark.slow  # by default: a rule of one's own above, which remembers images, means and a number
def test_eight_devices_equal_one_with_every_rule_of_the_package(on_devices):
    asked = [name for name, row in RULES.items() if "teacher" in row.needs and name != "steady"]
    rules = [*asked, *(f"{name}(flex)" for name in WRAPPERS), "energy around debiased(free)"]
    for found in on_devices(*rules).values():
        assert_eight_devices_equal_one(found)
