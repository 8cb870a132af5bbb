"""What methods for skew and outsiders do to pictures of digits, against plain `fixed`: minutes, so it is slow."""

import jax
import numpy as np
import pytest

from tests.stages import on_digits

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("on digits")]

RARE, MANY = 8, 20  # a class with a tenth of the labels of the others
EVEN_OUT = {"rule.debias": 1.0, "rule.window": 1000.0}  # all of the shares, and a memory of ten updates


@pytest.fixture(scope="module")
def skewed():
    return on_digits.task([MANY // 10 if k == RARE else MANY for k in range(10)])


@pytest.fixture(scope="module")
def start(skewed):
    """After fine-tuning, where two labels leave the rare class a fifth of its images."""
    return on_digits.train("finetune", skewed)


def after(given, start, **changes):
    """(share right in the rare class, in the others) of the teacher at the end of stage 3."""
    state = on_digits.train("semi", given, start=start, **changes)
    by_class = on_digits.class_accuracy(state.ema_params, given.test)
    return by_class[RARE], np.delete(by_class, RARE).mean()


@pytest.fixture(scope="module")
def plain(skewed, start):
    return after(skewed, start)


def test_a_fixed_threshold_forgets_a_rare_class(plain):
    assert plain[0] <= 0.1
    assert plain[1] >= 0.9


@pytest.mark.parametrize(("rule", "keys"), [("debiased(fixed)", EVEN_OUT), ("free", {})])
def test_a_rule_finds_the_rare_class_again(rule, keys, skewed, start, plain):
    rare, others = after(skewed, start, pseudo_label_rule=rule, **keys)
    assert rare >= 0.7
    assert others >= plain[1] - 0.02


# Outsiders


@pytest.fixture(scope="module")
def with_letters():
    return on_digits.task([MANY] * 10, outsiders=on_digits.letters(700))


@pytest.fixture(scope="module")
def fine_tuned(with_letters):
    return on_digits.train("finetune", with_letters)


def weights_after(given, start, **changes):
    """Weight of every unlabeled image under the teacher at the end of stage 3, and whether its label is right."""
    state = on_digits.train("semi", given, start=start, **changes)
    logits = on_digits.logits_of(state.ema_params, given.unlabeled.images)
    confidence = np.asarray(jax.nn.softmax(logits)).max(axis=1)
    factor = np.asarray(state.policy_state["inlier"]) if changes else 1.0
    assert np.min(factor) >= 0  # every image was seen
    return (confidence >= on_digits.THRESHOLD) * factor, logits.argmax(axis=1) == given.unlabeled.labels


def test_letters_weigh_less_than_digits(with_letters, fine_tuned):
    """To plain `fixed` they are digits like others before long; by the energy of their first visit they are not."""
    is_letter = with_letters.unlabeled.labels < 0
    (plain, plain_right), (weight, right) = (
        weights_after(with_letters, fine_tuned, **changes) for changes in ({}, {"outliers": "energy"})
    )
    assert plain[is_letter].mean() >= 0.8 * plain[~is_letter].mean()
    assert weight[is_letter].mean() <= 0.65 * weight[~is_letter].mean()
    assert weight[~is_letter].mean() >= 0.55
    assert (weight @ right) / weight.sum() >= (plain @ plain_right) / plain.sum() + 0.08
