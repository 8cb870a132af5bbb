"""SimPro: its formulas by hand, the shares it finds, and what it asks of the student."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from semivit_jax.ops.losses import cross_entropy, smoothed_target
from semivit_jax.stages import semi, supervised
from tests.compiled import quick_jit
from tests.stages import small
from tests.stages.rules import POINT_NINE, PROBS, assign, evidence_of, known_of, made
from tests.stages.test_semi import CONFIDENT
from tests.stages.test_skew_rules import VIEWS

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

LOGITS = np.log(PROBS)


def simpro(*batches, u=(1 / 3,) * 3, known=None, threshold=0.0, **keys):
    rule = made(
        "simpro", known or known_of([6, 3, 1]), threshold=threshold, **{"window": POINT_NINE, "every": 1, **keys}
    )
    return rule, *assign(rule, *batches, state={**rule.init(), "u": jnp.asarray(u)})


def posterior_by_hand(u, tau=1.0):
    changed = PROBS * np.asarray(u) ** tau
    return changed / changed.sum(axis=1, keepdims=True)


def test_simpro_by_hand():
    """Worked out for shares of .6, .3 and .1; the targets are soft, and the weights those of the threshold."""
    u = (0.6, 0.3, 0.1)
    rule, state, pseudo = simpro(LOGITS, u=u, threshold=0.5)
    np.testing.assert_allclose(pseudo.target[3], [1 / 3, 0.25, 0.416667], atol=1e-6)
    np.testing.assert_allclose(pseudo.target, posterior_by_hand(u))
    np.testing.assert_array_equal(pseudo.weight, [1, 1, 1, 0])
    np.testing.assert_allclose(state["sum"], posterior_by_hand(u).mean(axis=0))  # the image that is left out too
    np.testing.assert_allclose(rule.offset(state), np.log([0.6, 0.3, 0.1]))  # v, as among the labeled images
    np.testing.assert_allclose(rule.labeled_offset(state), rule.offset(state))
    np.testing.assert_allclose(simpro(LOGITS, u=u, simpro_tau=2.0)[2].target, posterior_by_hand(u, 2.0))


def test_simpro_changes_its_shares_after_a_period():
    """Running means with a memory of 0.9 per update; v is of the images that the student sees, one to three."""
    u, v = np.asarray([0.6, 0.3, 0.1]), np.asarray([0.6, 0.3, 0.1])
    found = posterior_by_hand(u).mean(axis=0)
    rule, first, _ = simpro(LOGITS, u=u, every=2)
    second, pseudo = assign(rule, LOGITS, state=first)
    np.testing.assert_array_equal([second["u"], second["v"]], [first["u"], first["v"]])
    np.testing.assert_allclose(second["sum"], 2 * found)
    third, pseudo = assign(rule, LOGITS, state=second)
    wanted = {"u": 0.81 * u + 0.19 * found, "v": 0.81 * v + 0.19 * (v + 3 * found) / 4}
    for name, value in wanted.items():
        np.testing.assert_allclose(third[name], value, err_msg=name)
    np.testing.assert_allclose(pseudo.target, posterior_by_hand(wanted["u"]))
    np.testing.assert_allclose(third["sum"], posterior_by_hand(wanted["u"]).mean(axis=0))
    np.testing.assert_allclose(rule.offset(third), np.log(wanted["v"]))


def test_simpro_takes_an_epoch_of_updates_unless_told():
    _, state, _ = simpro(*[LOGITS] * 3, u=(0.6, 0.3, 0.1), every=0)
    np.testing.assert_array_equal(state["u"], [0.6, 0.3, 0.1])
    _, state, _ = simpro(*[LOGITS] * 4, u=(0.6, 0.3, 0.1), every=0)
    assert np.abs(state["u"] - np.asarray([0.6, 0.3, 0.1])).max() > 1e-3


def test_even_shares_or_no_strength_leave_the_teacher_s_probabilities():
    np.testing.assert_allclose(simpro(LOGITS)[2].target, PROBS)
    rule, state, pseudo = simpro(LOGITS, u=(0.6, 0.3, 0.1), simpro_tau=0.0, threshold=0.72)
    np.testing.assert_allclose(pseudo.target, PROBS)
    np.testing.assert_array_equal(pseudo.weight, assign(made("fixed", threshold=0.72), LOGITS)[1].weight)
    np.testing.assert_array_equal(rule.offset(state), 0)


def test_simpro_finds_the_shares_of_classes_whose_likelihoods_are_known():
    """Of points on a line, normal around the number of their class; by the sure ones alone it is far from them."""
    counts, classes = np.asarray([11000, 5000, 3000, 1000]), np.arange(4)
    spread = [scipy.special.ndtri((np.arange(n) + 0.5) / n) / 2 for n in counts]
    points = np.concatenate([k + at for k, at in zip(classes, spread, strict=True)])
    logits = -2 * (points[:, None] - classes) ** 2
    rule = made("simpro", known_of([1] * 4), threshold=0.95, every=1, window=1.0)  # forgets from update to update
    step = quick_jit(lambda state: rule.assign(state, evidence_of(logits)))
    state = rule.init()
    for _ in range(200):
        state, pseudo = step(state)
    np.testing.assert_allclose(state["u"], counts / counts.sum(), atol=1e-3)
    sure = (pseudo.weight @ pseudo.target) / pseudo.weight.sum()
    assert sure[0] > 0.55 + 0.1
    assert sure[3] < 0.6 * 0.05


def test_a_class_that_seems_absent_can_come_back():
    rule, state, pseudo = simpro(*[1e4 * np.eye(3)[[0, 0, 1, 1]]] * 3, window=1e-3)
    np.testing.assert_allclose(state["u"], [0.5, 0.5, 0], atol=1e-9)
    _, pseudo = assign(rule, np.log([[0.2, 0.1, 0.7]]), state=state)
    assert pseudo.target[0, 2] == pytest.approx(0.7 / 30 / (0.7 / 30 + 0.1 + 0.05))
    lacking = simpro(LOGITS, known=known_of([1, 1, 0]))
    np.testing.assert_allclose(lacking[0].offset(lacking[1]), np.log([0.5, 0.5, 1 / 30]))


def test_simpro_asks_the_same_of_labeled_images():
    """One plain loss of all images of the update, each by the student's logits and the shares v."""
    changes = {**VIEWS, "pseudo_label_rule": "simpro", "rule.every": 1, "rule.window": 100.0}
    config, plan = small.stage_config("semi", **changes), small.stage_plan("semi")
    section, batch = config.stage("semi"), small.semi_batch()
    rule = semi.make_rule(section, plan)
    network = supervised.build_network(config, section, plan, backend="cpu")
    logits = quick_jit(lambda params, images: network.logits(params, images, None))
    state = small.initial_state("semi", teacher_scale=CONFIDENT)
    evidence = evidence_of(logits(state.ema_params, batch["unlabeled"]["weak"]))
    began, _ = assign(rule, evidence)
    step = small.compiled_step("semi", **changes)
    after, found = step(state.replace(policy_state=began), small.micro(batch), small.key())
    policy_state, pseudo = assign(rule, evidence, state=began)
    small.assert_close(after.policy_state, policy_state)
    offset = np.log(policy_state["v"])
    assert np.ptp(offset) > 0.01
    own = smoothed_target(batch["labeled"]["label"], 10, section.label_smoothing, offset.dtype)
    labeled = cross_entropy(logits(state.params, batch["labeled"]["image"]) + offset, own)
    strong = cross_entropy(logits(state.params, batch["unlabeled"]["strong"]) + offset, pseudo.target)
    np.testing.assert_allclose(found["loss_labeled"].total[0], labeled.mean(), rtol=1e-9)
    np.testing.assert_allclose(found["loss_unlabeled"].total[0], (pseudo.weight * strong).mean(), rtol=1e-9)
    assert 0 < pseudo.weight.mean() < 1
