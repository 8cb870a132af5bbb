"""What rules do about skew and outsiders: formulas, by hand where numbers stand, and what the student is asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.ops.losses import cross_entropy
from semivit_jax.stages import semi, supervised
from semivit_jax.stages.rules.fairness import fairness
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.stages import small
from tests.stages.rules import FAIR, POINT_NINE, PROBS, assign, evidence_of, known_of, made, random_logits
from tests.stages.test_semi import CONFIDENT

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

LOGITS = np.log(PROBS)
PUBLISHED = {"start": "published", "window": POINT_NINE}  # memory 0.9

# debiased


def seen_by_hand(q, debias):
    changed = PROBS / np.asarray(q) ** debias
    return changed / changed.sum(axis=1, keepdims=True)


def debiased(q, *batches, rule="debiased(soft)", **keys):
    made_rule = made(rule, known_of([1, 1, 1]), **{"sharpening": 1.0, "window": POINT_NINE, **keys})
    return made_rule, *assign(made_rule, *batches, state={"rule": (), "q": jnp.asarray(q)})


def test_debiased_by_hand():
    rule, state, pseudo = debiased([0.6, 0.3, 0.1], LOGITS, debias=0.4)
    np.testing.assert_allclose(pseudo.target[2], [0.383028, 0.303245, 0.313727], atol=1e-6)
    np.testing.assert_allclose(pseudo.target, seen_by_hand([0.6, 0.3, 0.1], 0.4))  # by q as it was
    after = 0.9 * np.asarray([0.6, 0.3, 0.1]) + 0.1 * PROBS.mean(axis=0)  # by the raw probabilities
    np.testing.assert_allclose(state["q"], after)
    np.testing.assert_allclose(rule.offset(state), 0.4 * np.log(after))  # by q as it is


def test_an_even_prior_or_no_strength_changes_nothing():
    plain = assign(made("soft", sharpening=1.0), LOGITS)[1].target
    np.testing.assert_allclose(debiased([1 / 3] * 3, LOGITS)[2].target, plain)
    rule, state, pseudo = debiased([0.6, 0.3, 0.1], LOGITS, debias=0.0)
    np.testing.assert_allclose(pseudo.target, plain)
    np.testing.assert_array_equal(rule.offset(state), 0)


def test_a_skewed_stream_moves_the_prior():
    often = LOGITS[[0, 0, 0, 1, 2, 3]]
    rule = made("debiased(fixed)", **PUBLISHED)
    np.testing.assert_allclose(rule.init()["q"], 1 / 3)
    state, _ = assign(rule, *[often] * 60)
    np.testing.assert_allclose(state["q"], PROBS[[0, 0, 0, 1, 2, 3]].mean(axis=0), atol=1e-3)


def test_the_first_update_goes_by_its_own_shares_unless_published():
    rule = made("debiased(soft)", sharpening=1.0, debias=0.4)
    _, pseudo = assign(rule, LOGITS)
    np.testing.assert_allclose(pseudo.target, seen_by_hand(PROBS.mean(axis=0), 0.4))


def test_a_class_that_never_comes_gets_finite_help():
    certain = 1e4 * np.eye(3)[[0, 0, 1, 1]]
    rule, state, pseudo = debiased([0.5, 0.5, 0.0], certain, rule="debiased(fixed)")
    assert np.isfinite(rule.offset(state)).all()
    np.testing.assert_array_equal(pseudo.target, np.eye(3)[[0, 0, 1, 1]])


def test_what_stands_around_a_rule_asks_the_same_of_the_student():
    own = made("debiased(free)", **FAIR)
    for text in ("tempered(debiased(free))", "debiased(tempered(free))"):
        around = made(text, temperature=1.0, **FAIR)
        (state, _), (other, _) = assign(own, LOGITS), assign(around, LOGITS)
        np.testing.assert_allclose(around.offset(other), own.offset(state))
        penalties = [rule.penalty(s, PROBS, np.ones(4)) for rule, s in ((own, state), (around, other))]
        np.testing.assert_allclose(*penalties)
        assert penalties[0] != 0
    outside = made("debiased(free)", outliers="energy", **FAIR)
    (state, _), (other, _) = assign(own, LOGITS), assign(outside, LOGITS)
    np.testing.assert_allclose(outside.offset(other), own.offset(state))


# fairness

STRONG = np.asarray([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.4, 0.35, 0.25], [0.2, 0.2, 0.6]])


def free_state():
    state, _ = assign(made("free", **PUBLISHED, **FAIR), LOGITS)
    return state


def term(rows, kept, least=0.0):
    state = free_state()
    return fairness(jnp.asarray(rows), jnp.asarray(kept), state["g"], state["h"], least=least)


def test_fairness_by_hand():
    np.testing.assert_allclose(free_state()["h"], [0.35, 0.325, 0.325], atol=1e-6)
    np.testing.assert_allclose(term(STRONG, [True] * 4), -1.108477, atol=1e-6)
    np.testing.assert_allclose(term(STRONG, [True, True, False, False]), -9.7493, atol=1e-4)  # class 2 is absent
    penalty = made("free", **PUBLISHED, **FAIR).penalty
    for weight, value in (([1, 1, 0.5, 1], -1.108477), ([1, 1, 0, 0], -9.7493)):
        found = penalty(free_state(), jnp.asarray(STRONG), jnp.asarray(weight))
        np.testing.assert_allclose(found, 0.1 * value, atol=1e-5)


def test_fairness_is_nothing_where_too_little_is_kept():
    slope = jax.grad(lambda rows, kept, least: term(rows, kept, least))
    for kept, least in (([False] * 4, 0.0), ([True] * 4, 5.0)):
        assert term(STRONG, kept, least) == 0
        np.testing.assert_array_equal(slope(jnp.asarray(STRONG), kept, least), 0)
    assert np.isfinite(slope(jnp.asarray(STRONG), [True, False, False, False], 0.0)).all()
    assert (slope(jnp.asarray(STRONG), [True] * 4, 4.0) != 0).any()


def test_only_what_is_kept_is_asked_to_be_fair():
    slope = jax.grad(lambda rows: term(rows, [True, True, True, False]))(jnp.asarray(STRONG))
    np.testing.assert_array_equal(slope[3], 0)
    assert (slope[:3] != 0).any()


def test_without_fairness_the_state_is_what_it_was():
    assert made("free").init().keys() == {"tau", "g"}
    assert made("free").penalty is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"semi.rule.fairness": 0.1}, "config.semi.pseudo_mixup 'prob': the fairness term is of unmixed images"),
        ({"semi.outliers": "energy", "semi.pseudo_label_rule": "bank", "semi.bank": "x"}, "asks no teacher"),
        ({"semi.outliers": "ova"}, "config.semi.outliers is 'ova'; legal values: none, energy"),
        ({"semi.rule.outlier_sigmas": 0.0}, "config.semi.rule.outlier_sigmas is 0.0; it must be above 0"),
        ({"semi.rule.simpro_tau": -1.0}, "config.semi.rule.simpro_tau is -1.0; it must be at least 0"),
        (
            {"semi.pseudo_label_rule": "tempered(simpro)", "semi.labeled_loss": "logit_adjusted"},
            "by itself and config.semi.labeled_loss is 'logit_adjusted', which would favour rare classes twice",
        ),
        (
            {"semi.pseudo_label_rule": "simpro", "semi.balanced_order": True},
            "by itself and config.semi.balanced_order is True, which would favour rare classes twice",
        ),
        ({"semi.rule.debias": -1.0}, "config.semi.rule.debias is -1.0; it must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told) as error:
        small_config(**{"semi.pseudo_label_rule": "free", **changes})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "accum", "told"),
    [
        ({**FAIR}, 2, "fairness is 0.1 and an update has 2 micro-steps"),
        ({"fairness": 0.1, "fairness_images": 4.0}, 1, "4 kept images of each of 10 classes .* has 32 unlabeled ones"),
    ],
)
def test_fairness_is_refused_where_updates_do_not_fit(keys, accum, told):
    keys = {f"rule.{name}": value for name, value in keys.items()}
    section = small.stage_config("semi", pseudo_label_rule="free", pseudo_mixup="none", **keys).stage("semi")
    with pytest.raises(ConfigError, match=told):
        semi.make_rule(section, small.stage_plan("semi", accum))


# energy


def by_energy(energies, labeled, *, state=None, **keys):
    """Of logits that have such energies, and no class before another."""
    rule = made("fixed", threshold=0.0, outliers="energy", **{"outlier_sigmas": 2.0, "window": POINT_NINE, **keys})
    logits, known = (-np.asarray(e)[:, None] - np.log(3) + np.zeros(3) for e in (energies, labeled))
    return assign(rule, evidence_of(logits, labeled=known), state=state)


def test_energy_by_hand():
    """Labeled images of energy -5 and -3: mean -4, variance 1. Twice that deviation above weighs exp(-1/2)."""
    state, pseudo = by_energy([-9, -4, -2, 0], [-5, -3])
    np.testing.assert_allclose([state["mu"], state["v"]], [-4, 1])
    np.testing.assert_allclose(pseudo.weight, [1, 1, np.exp(-0.5), np.exp(-2)])
    np.testing.assert_allclose(pseudo.inlier, pseudo.weight)
    np.testing.assert_allclose(pseudo.strength, pseudo.inlier / 3)
    after, later = by_energy([0, -9, -9, -9], [1, 1], state=state)
    np.testing.assert_allclose([after["mu"], after["v"]], [0.9 * -4 + 0.1 * 1, 0.9])
    np.testing.assert_allclose(later.inlier, pseudo.inlier)  # the first visit decides
    np.testing.assert_allclose(after["inlier"], [*pseudo.inlier, *[-1] * 46])


def test_energy_leaves_the_labels_to_the_rule():
    rule, plain = made("aligned(free)", outliers="energy"), made("aligned(free)")
    (state, pseudo), (inner, alone) = assign(rule, random_logits()), assign(plain, random_logits())
    small.assert_equal(state["rule"], inner)
    np.testing.assert_array_equal(pseudo.target, alone.target)
    np.testing.assert_allclose(pseudo.weight, alone.weight * pseudo.inlier)
    assert 0 < pseudo.inlier.min() < 0.9


def test_an_image_that_looks_like_no_class_weighs_less_however_sure_the_teacher_is():
    """A constant taken from all logits changes no probability, and the energy by as much."""
    sure = 8 * np.eye(3)[[0, 1, 2, 0]]
    outsiders = sure - np.asarray([0, 0, 0, 5.0])[:, None]
    rule = made("fixed", outliers="energy")
    _, pseudo = assign(rule, evidence_of(outsiders, labeled=sure + np.asarray([[0.5], [-0.5], [0], [0]])))
    np.testing.assert_allclose(pseudo.confidence, pseudo.confidence[0])
    assert pseudo.weight[3] < 1e-3 < 0.99 < pseudo.weight[:3].min()


# In the step

VIEWS = {"pseudo_mixup": "none", "labeled_mixup": False, "drop_path_rate": 0.0, "erase_prob": 0.0}


def test_the_student_is_asked_by_offset_and_penalty():
    """And by its own logits alone where there are none; numbers as worked out from the logits."""
    changes = {**VIEWS, "pseudo_label_rule": "debiased(free)", "outliers": "energy",
               **{f"rule.{name}": value for name, value in FAIR.items()}}  # fmt: skip
    config, plan = small.stage_config("semi", **changes), small.stage_plan("semi")
    section, batch = config.stage("semi"), small.semi_batch()
    batch["labeled"]["weak"] = small.images(6, small.BATCH)
    batch["unlabeled"]["image_id"] = np.arange(small.BATCH * small.RATIO, dtype=np.int32)
    rule = semi.make_rule(section, plan)
    state = small.initial_state("semi", teacher_scale=CONFIDENT).replace(policy_state=rule.init())
    after, found = small.compiled_step("semi", **changes)(state, small.micro(batch), small.key())
    network = supervised.build_network(config, section, plan, backend="cpu")
    logits = quick_jit(lambda params, images: network.logits(params, images, None))
    evidence = evidence_of(
        logits(state.ema_params, batch["unlabeled"]["weak"]), labeled=logits(state.ema_params, batch["labeled"]["weak"])
    )
    policy_state, pseudo = assign(rule, evidence, state=state.policy_state)
    small.assert_close(after.policy_state, policy_state)
    student = logits(state.params, batch["unlabeled"]["strong"])
    of_images = pseudo.weight * cross_entropy(student + rule.offset(policy_state), pseudo.target)
    penalty = rule.penalty(policy_state, jax.nn.softmax(student), pseudo.weight)
    np.testing.assert_allclose(found["loss_penalty"].total[0], penalty, rtol=1e-9)
    np.testing.assert_allclose(found["loss_unlabeled"].total[0], of_images.mean() + penalty, rtol=1e-9)
    np.testing.assert_allclose(found["inlier_weight"].total, pseudo.inlier.mean(), rtol=1e-9)
    assert np.abs(rule.offset(policy_state) - rule.offset(policy_state)[0]).max() > 1e-3
    assert 0 < pseudo.weight.mean() < 1
