"""The temperature has the smallest log loss there is, and none is made up where the images cannot tell it."""

import numpy as np
import pytest

from semivit_jax.ops.temperature import FEWEST_IMAGES, fit, log_loss


def drawn(images, *, sharpness, classes=5, seed=0):
    """Labels drawn from softmax(logits), and logits that are `sharpness` times as large."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0.0, 1.5, (images, classes))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)  # a draw from their softmax
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_logits_that_are_too_sure_by_a_factor_get_that_factor(sharpness):
    logits, labels = drawn(20_000, sharpness=sharpness)
    found = fit(logits, labels)
    assert found.value == pytest.approx(sharpness, rel=0.05)
    assert (found.images, found.missing) == (20_000, "")
    for other in (0.9, 1.1):
        assert log_loss(logits, labels, found.value) < log_loss(logits, labels, other * found.value)


def test_fewer_than_fifty_images_tell_nothing():
    logits, labels = drawn(FEWEST_IMAGES, sharpness=4.0)
    assert fit(logits, labels).missing == ""
    found = fit(logits[1:], labels[1:])
    assert found.value == 1.0
    assert found.missing == "49 validation images, at least 50 are needed"
    assert fit(np.empty((0, 5)), np.empty(0, int)).value == 1.0


def test_a_classifier_without_a_mistake_has_no_temperature():
    logits, _ = drawn(200, sharpness=1.0)
    found = fit(logits, logits.argmax(axis=1))
    assert (found.value, found.missing) == (1.0, "on 200 validation images the fit does not converge")


def test_the_log_loss_is_that_of_the_probabilities():
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    assert log_loss(logits, np.array([0, 2]), 1.0) == pytest.approx(-np.log(0.5 * 0.7) / 2)
    assert np.isfinite(log_loss(1e4 * logits, np.array([1, 0]), 1.0))
