"""Losses for skewed labels: their formulas, what they are where labels are even, and in the real step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops.losses import cross_entropy
from semivit_jax.stages.labeled_loss import LABELED_LOSSES, class_weights, make_loss
from tests.stages import small

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

LOGITS = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.array([0, 0, 0, 1, 1, 2])
TARGETS = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
SKEWED = (300, 30, 3)


def loss(name, counts=SKEWED, beta=0.99, tau=1.0):
    return make_loss(name, counts, beta=beta, tau=tau)(jnp.asarray(LOGITS), jnp.asarray(TARGETS))


def test_class_weights_by_hand():
    """Effective numbers of 1, 2 and 4 images at beta 0.5: 1, 1.5, 1.875."""
    found = class_weights(np.array([1, 2, 4]), 0.5)
    np.testing.assert_allclose(found / found[0], [1, 1 / 1.5, 1 / 1.875])
    assert np.average(found, weights=[1, 2, 4]) == pytest.approx(1)


def test_the_limits_of_class_weights():
    np.testing.assert_allclose(class_weights(np.array(SKEWED), 0.0), 1)
    inverse = class_weights(np.array(SKEWED), 1 - 1e-9)
    np.testing.assert_allclose(inverse * SKEWED, 111, rtol=1e-4)
    assert np.isfinite(class_weights(np.array([0, 5]), 0.999)).all()


def test_a_class_balanced_loss_weighs_images_by_their_class():
    weights = class_weights(np.array(SKEWED), 0.99)
    expected = (TARGETS @ weights) * cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS))
    np.testing.assert_allclose(loss("class_balanced"), expected)


def test_a_logit_adjusted_loss_adds_the_log_prior():
    prior = np.array(SKEWED) / 333
    expected = cross_entropy(jnp.asarray(LOGITS + 0.5 * np.log(prior)), jnp.asarray(TARGETS))
    np.testing.assert_allclose(loss("logit_adjusted", tau=0.5), expected)
    assert np.isfinite(loss("logit_adjusted", counts=(5, 0, 1))).all()


def test_the_best_logits_under_a_skewed_prior_are_those_of_even_classes():
    """Labels come 9 to 1, as the classes do: adjusted, logits say nothing of it; plain, they say the prior."""
    counts, target = (90, 10), jnp.asarray([[0.9, 0.1]])
    of = {name: make_loss(name, counts, beta=0.9, tau=1.0) for name in LABELED_LOSSES}
    for name, difference in (("plain", np.log(9)), ("logit_adjusted", 0.0)):
        slope = jax.grad(lambda x, name=name: of[name](jnp.stack([x, jnp.zeros(())])[None], target).sum())
        assert slope(jnp.asarray(difference)) == pytest.approx(0, abs=1e-12)
        assert abs(slope(jnp.asarray(difference + 1.0))) > 0.05


@pytest.mark.parametrize("name", LABELED_LOSSES)
def test_even_labels_make_no_difference(name):
    np.testing.assert_allclose(loss(name, counts=(40, 40, 40)), loss("plain"), rtol=1e-12)


@pytest.mark.parametrize("name", LABELED_LOSSES)
def test_losses_are_at_least_float32(name):
    found = make_loss(name, SKEWED, beta=0.9, tau=1.0)(
        jnp.asarray(LOGITS, jnp.bfloat16), jnp.asarray(TARGETS, jnp.bfloat16)
    )
    assert found.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class_balanced", "logit_adjusted"])
def test_in_the_real_step_even_labels_give_the_plain_update(name):
    batch, state = small.micro(small.semi_batch()), small.initial_state("semi")
    plain, _ = small.compiled_step("semi")(state, batch, small.key())
    found, _ = small.compiled_step("semi", labeled_loss=name)(state, batch, small.key())
    small.assert_close(found.params, plain.params)
