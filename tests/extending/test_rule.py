"""Rules of one's own: their formulas, what every rule keeps to, and that one line in `RULES` is all a run needs."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops.mixup import ProbDraw
from semivit_jax.stages import semi
from semivit_jax.stages.pseudo_label import RULES, Evidence, Known, fixed
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from tests.compiled import quick_jit
from tests.e2e.runs import ROOT, common_machine
from tests.extending import rule
from tests.stages import small
from tests.stages.test_semi import CONFIDENT

PROBS = np.asarray([[0.90, 0.06, 0.04], [0.20, 0.70, 0.10], [0.50, 0.30, 0.20], [0.10, 0.15, 0.75]])
POINT_NINE = 4 / -np.log(0.9)  # the window whose memory is 0.9 at four images


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(RULES, "aligned(free)", rule.ALIGNED_FREE)
    monkeypatch.setitem(RULES, "counted", rule.COUNTED)


def known_of(prior):
    prior = np.asarray(prior, np.float64)
    return Known(len(prior), num_unlabeled=50, steps_per_epoch=10, label_prior=prior / prior.sum())


def free(known, *, window=100.0, start=0.0):
    return rule.free(known, window=window, start=start)


def aligned(known, inner, *, prior="labels", window=100.0, **options):
    return rule.aligned(inner, known, prior=prior, window=window, **options)


MAKE = {
    "fixed": lambda known: fixed(0.5, None, known),
    "free": free,
    "free, as published": lambda known: free(known, start=1 / known.num_classes),
    "aligned(fixed)": lambda known: aligned(known, fixed(0.5, None, known)),
    "aligned(fixed), own target": lambda known: aligned(known, fixed(0.5, None, known), own_target=True),
    "aligned(free), prior of the model": lambda known: aligned(known, free(known), prior="model"),
    "counted(aligned(free))": lambda known: rule.counted(aligned(known, free(known)), known),
}
EVERY_RULE = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def evidence_of(logits, *, labeled=None, image_id=None):
    logits = jnp.asarray(logits)
    labeled = logits[: max(1, len(logits) // 2)] if labeled is None else jnp.asarray(labeled)
    image_id = jnp.arange(len(logits)) if image_id is None else jnp.asarray(image_id)
    return Evidence(logits, image_id.astype(jnp.int32), labeled, jnp.zeros(len(labeled), jnp.int32))


def random_logits(rows=12, classes=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, classes)) * 3


def assign(made, *batches, state=None):
    """(state, pseudo labels of the last batch)."""
    state, pseudo = made.init() if state is None else state, None
    for logits in batches:
        state, pseudo = made.assign(state, logits if isinstance(logits, Evidence) else evidence_of(logits))
    return state, pseudo


def seen(made_with, logits):
    """The logits that an aligned rule hands on."""
    handed = []

    def look(state, evidence):
        handed.append(evidence.logits)
        return state, fixed(0.5, None, made_with["known"]).assign((), evidence)[1]

    inner = rule.PseudoLabelRule(tuple, look)
    options = {"prior": "labels", "window": POINT_NINE} | made_with
    state, _ = assign(rule.aligned(inner, **options), *logits)
    return state, jax.nn.softmax(handed[-1])


# Formulas


def test_the_thresholds_of_free():
    """As published, memory 0.9, worked out by hand."""
    made = free(known_of([1, 1, 1]), window=POINT_NINE, start=1 / 3)
    state, pseudo = assign(made, np.log(PROBS))
    np.testing.assert_allclose(state["tau"], 0.37125, rtol=1e-9)
    np.testing.assert_allclose(state["g"], [0.3425, 0.33025, 0.32725], rtol=1e-9)
    np.testing.assert_allclose(state["h"], [0.35, 0.325, 0.325], rtol=1e-9)
    thresholds = rule.class_thresholds(state)
    np.testing.assert_allclose(thresholds, [0.37125, 0.357972, 0.354720], atol=5e-7)
    np.testing.assert_array_equal(pseudo.weight, 1)
    np.testing.assert_allclose(pseudo.strength, PROBS.max(axis=1) / thresholds[PROBS.argmax(axis=1)])


def test_a_constant_confidence_is_approached_as_the_memory_fades():
    made, tau = free(known_of([1, 1, 1]), window=POINT_NINE, start=1 / 3), []
    logits, state = np.log(PROBS[[0, 0, 0, 0]]), made.init()
    for _ in range(5):
        state, _ = made.assign(state, evidence_of(logits))
        tau.append(state["tau"] - 0.9)
    np.testing.assert_allclose(tau, (1 / 3 - 0.9) * 0.9 ** np.arange(1, 6), rtol=1e-9)


def test_class_thresholds_reach_tau_and_stay_below_it():
    state, _ = assign(free(known_of([1, 1, 1])), random_logits(), random_logits(seed=1))
    thresholds = rule.class_thresholds(state)
    assert thresholds.max() == state["tau"]
    assert (thresholds > 0).all()
    even = state | {"g": jnp.full(3, 1 / 3)}
    np.testing.assert_array_equal(rule.class_thresholds(even), state["tau"])


def test_without_a_start_the_first_batch_begins():
    state, _ = assign(free(known_of([1, 1, 1])), np.log(PROBS))
    np.testing.assert_allclose(state["tau"], PROBS.max(axis=1).mean(), rtol=1e-12)
    np.testing.assert_allclose(state["g"], PROBS.mean(axis=0), rtol=1e-12)


def test_the_alignment_of_the_published_example():
    state, probs = seen({"known": known_of([1, 1, 1])}, [np.log(PROBS)])
    np.testing.assert_allclose(state["q"], [0.425, 0.3025, 0.2725], rtol=1e-9)
    np.testing.assert_allclose(probs[0], [0.859859, 0.080538, 0.059603], atol=1e-6)
    _, probs = seen({"known": known_of([0.2, 0.3, 0.5])}, [np.log(PROBS)])
    np.testing.assert_allclose(probs[2], [0.261500, 0.330657, 0.407843], atol=1e-6)  # label 0 becomes 2
    np.testing.assert_allclose(probs[3], [0.029936, 0.094633, 0.875430], atol=1e-6)


def test_alignment_to_what_is_there_changes_nothing():
    _, probs = seen({"known": known_of(PROBS.mean(axis=0))}, [np.log(PROBS)])
    np.testing.assert_allclose(probs, PROBS, atol=1e-6)


def test_equal_images_are_given_the_prior():
    _, probs = seen({"known": known_of([0.2, 0.3, 0.5])}, [np.log(PROBS[[0, 0]])])
    np.testing.assert_allclose(probs, [[0.2, 0.3, 0.5]] * 2, atol=2e-5)


def test_the_running_mean_has_a_closed_form():
    batches = [random_logits(rows=4, seed=s) for s in range(6)]
    state, _ = seen({"known": known_of([1, 1, 1])}, batches)
    means = np.stack([jax.nn.softmax(b).mean(axis=0) for b in batches])
    weights = 0.9 ** np.arange(5, -1, -1) * np.asarray([1.0] + [0.1] * 5)
    np.testing.assert_allclose(state["q"], weights @ means, rtol=1e-9)


def test_a_prior_of_the_model_is_what_the_teacher_says_of_labeled_images():
    evidence = evidence_of(np.log(PROBS), labeled=np.log(PROBS[:2]))
    state, probs = seen({"known": known_of([1, 1, 1]), "prior": "model"}, [evidence])
    wanted = PROBS[:2].mean(axis=0)
    np.testing.assert_allclose(state["r"], wanted, rtol=1e-9)
    changed = PROBS * wanted / PROBS.mean(axis=0)
    np.testing.assert_allclose(probs, changed / changed.sum(axis=1, keepdims=True), atol=2e-5)


def test_the_target_may_stay_the_teachers_own():
    known = known_of([0.2, 0.3, 0.5])
    targets = [
        assign(aligned(known, fixed(0.5, None, known), own_target=own), np.log(PROBS))[1].target.argmax(axis=1)
        for own in (False, True)
    ]
    assert [t.tolist() for t in targets] == [[0, 1, 2, 2], [0, 1, 0, 2]]


def test_images_are_counted_when_they_are_kept():
    known = known_of([1, 1, 1])
    made = rule.counted(fixed(0.72, None, known), known)
    state, _ = assign(made, evidence_of(np.log(PROBS), image_id=[7, 3, 4, 9]))
    state, _ = assign(made, evidence_of(np.log(PROBS), image_id=[9, 3, 7, 0]), state=state)
    assert {i: int(n) for i, n in enumerate(state["kept"]) if n} == {7: 1, 9: 2, 0: 1}


# What every rule keeps to

CASES = {
    "random": random_logits(),
    "all equal": np.zeros((6, 3)),
    "certain": 1e4 * np.eye(3),
    "large": 1e4 * random_logits(),
    "two classes": random_logits(classes=2),
    "one image": random_logits(rows=1),
}


@EVERY_RULE
@pytest.mark.parametrize("logits", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_pseudo_labels_have_the_right_form(make, logits, dtype):
    rows, classes = logits.shape
    state, pseudo = assign(make(known_of(range(1, classes + 1))), *[logits.astype(dtype)] * 2)
    assert [x.shape for x in pseudo] == [(rows, classes), (rows,), (rows,), (rows,)]
    assert all(np.isfinite(leaf.astype(float)).all() for leaf in jax.tree.leaves((state, pseudo)))
    np.testing.assert_array_equal(pseudo.target.sum(axis=1), 1)
    assert ((pseudo.weight >= 0) & (pseudo.weight <= 1)).all()
    assert (pseudo.strength > 0).all()


@EVERY_RULE
def test_a_state_keeps_its_form(make):
    made = make(known_of([1, 2, 3]))
    state, _ = assign(made, random_logits())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), made.init())


@EVERY_RULE
def test_the_order_of_classes_does_not_matter(make):
    order, prior = np.asarray([2, 0, 1]), np.asarray([1, 2, 3])
    state, pseudo = assign(make(known_of(prior)), random_logits(), random_logits(seed=1))
    permuted = [random_logits(seed=s)[:, order] for s in (0, 1)]
    other_state, other = assign(make(known_of(prior[order])), *permuted)
    np.testing.assert_array_equal(other.target, pseudo.target[:, order])
    small.assert_close(other[1:], pseudo[1:])

    def reordered(leaf):
        return leaf[order] if leaf.shape == (3,) else leaf

    small.assert_close(other_state, jax.tree.map(reordered, state))


@EVERY_RULE
def test_the_order_of_images_does_not_matter(make):
    order, made = np.random.default_rng(3).permutation(12), make(known_of([1, 2, 3]))
    evidence = evidence_of(random_logits(), labeled=random_logits(seed=2))
    shuffled = evidence._replace(logits=evidence.logits[order], image_id=evidence.image_id[order])
    (state, pseudo), (other_state, other) = assign(made, evidence), assign(made, shuffled)
    small.assert_close(other_state, state)
    small.assert_close(other, jax.tree.map(lambda x: x[order], pseudo))


def test_a_threshold_that_stays_reproduces_the_fixed_one_through_mixup():
    known, logits = known_of([1] * 4), random_logits(classes=4)
    _, adaptive = assign(free(known, window=np.inf, start=0.5), logits)
    _, plain = assign(fixed(0.5, None, known), logits)
    generator = np.random.default_rng(0)
    partner, center = generator.permutation(12)[None], generator.integers(0, 4, (1, 12, 2))
    draw = ProbDraw(partner, generator.random((1, 12)) < 0.5, center)
    images = generator.normal(size=(12, 4, 4, 3))
    both = [
        mix_pseudo(images, pseudo, draw, kind="prob", label_smoothing=0.1, group_size=12)
        for pseudo in (adaptive, plain)
    ]
    assert 0 < plain.weight.mean() < 1
    np.testing.assert_array_equal(adaptive.weight, plain.weight)
    np.testing.assert_array_equal(both[0].confidence_mask, both[1].confidence_mask)
    small.assert_close(both[0], both[1], rtol=1e-12)


# In the step


def batch_with_needs():
    batch = small.semi_batch()
    batch["labeled"]["weak"] = small.images(6, small.BATCH)
    batch["unlabeled"]["image_id"] = np.arange(small.BATCH * small.RATIO, dtype=np.int32)[::-1].copy()
    return batch


def state_of(name):
    section = small.stage_config("semi", pseudo_label_rule=name).stage("semi")
    made = semi.make_rule(section, small.stage_plan("semi"))
    return small.initial_state("semi", teacher_scale=CONFIDENT).replace(policy_state=made.init())


def step_of(accum=1):
    return small.compiled_step("semi", accum=accum, pseudo_label_rule="counted")


@pytest.mark.slow  # by default: eight devices with four micro-steps below
def test_four_micro_steps_equal_one():
    one = four = state_of("counted")
    for _ in range(2):
        one, found = step_of()(one, small.micro(batch_with_needs()), small.key())
        four, found_four = step_of(4)(four, small.micro(batch_with_needs(), 4), small.key())
    small.assert_close(four.policy_state, one.policy_state)
    small.assert_close(four.params, one.params)
    assert 0 < found["mask_rate"].total.mean() < 1
    np.testing.assert_allclose(found_four["mask_rate"].total.mean(), found["mask_rate"].total.mean(), rtol=1e-9)


def test_the_rule_sees_labeled_images_and_ids():
    state, batch = state_of("counted"), batch_with_needs()
    after, _ = step_of()(state, small.micro(batch), small.key())
    config, plan = small.stage_config("semi"), small.stage_plan("semi")
    model = semi.supervised.build_network(config, config.stage("semi"), plan, backend="cpu")
    logits = quick_jit(lambda images: model.logits(state.ema_params, images, None))
    probs = jax.nn.softmax(logits(batch["labeled"]["weak"]))
    found = after.policy_state["rule"]
    np.testing.assert_allclose(found["r"], probs.mean(axis=0), rtol=1e-9)
    made = semi.make_rule(small.stage_config("semi", pseudo_label_rule="counted").stage("semi"), plan)
    evidence = Evidence(
        logits(batch["unlabeled"]["weak"]), batch["unlabeled"]["image_id"], logits(batch["labeled"]["weak"])
    )
    wanted, pseudo = made.assign(made.init(), evidence)
    small.assert_close(after.policy_state, wanted)
    kept = np.flatnonzero(after.policy_state["kept"])
    assert sorted(np.asarray(evidence.image_id)[np.asarray(pseudo.weight) > 0]) == kept.tolist()


def test_a_dropped_update_leaves_the_state():
    state, _ = step_of()(state_of("counted"), small.micro(batch_with_needs()), small.key())
    batch = batch_with_needs()
    batch["labeled"]["image"][0] = np.nan
    after, found = step_of()(state, small.micro(batch), small.key())
    assert found["dropped"].total == 1
    small.assert_equal(after.policy_state, state.policy_state)


def test_nothing_is_learned_through_the_teacher_or_the_rule():
    config = small.stage_config("semi", pseudo_label_rule="counted")
    update = semi.make_update(config, small.stage_plan("semi"), backend="cpu")[2]
    state, draws = state_of("counted"), small.semi_draws()

    def loss(ema_params, statistics):
        policy_state = state.policy_state | {"rule": statistics}
        _, found = update(
            state.replace(ema_params=ema_params, policy_state=policy_state), small.micro(batch_with_needs()), draws
        )
        return found["loss_unlabeled"].total.sum()

    gradients = quick_jit(jax.grad(loss, argnums=(0, 1)))(state.ema_params, state.policy_state["rule"])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_eight_devices_equal_one(tmp_path_factory):
    machine = common_machine(tmp_path_factory.mktemp("machine"))
    path = tmp_path_factory.mktemp("devices") / "found.json"
    command = [sys.executable, "-m", "tests.extending.rule_on_devices", str(path)]
    subprocess.run(command, env=machine.environ(devices=8), cwd=ROOT, check=True)
    found = json.loads(path.read_text())
    wanted = found.pop("1 device")
    assert len(found) == 2
    assert 0 < wanted["mask_rate"] < 1
    for case, values in found.items():
        assert values.keys() == wanted.keys()
        for name in (n for n in wanted if "confidence_q" not in n):  # quantiles are of each micro-step
            scale = np.abs(wanted[name]).max()
            np.testing.assert_allclose(values[name], wanted[name], rtol=0, atol=1e-9 * scale, err_msg=f"{case}: {name}")
