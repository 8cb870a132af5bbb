"""Classes that are hardly ever answered are named with the key that helps; hard ones, and few images, are not."""

import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import scores
from semivit_jax.ops.metrics import Mean
from semivit_jax.stages import STAGES
from semivit_jax.training import forgotten
from tests.configs import small_config, small_plan

HEALTH = STAGES["semi"].health
NAMES = ("ant", "bee", "cat")


def line(answers, images, *, names=NAMES, rule="fixed", **changes):
    config = small_config(**{"semi.pseudo_label_rule": rule, **changes})
    sums = {scores.CLASS_ANSWERS: Mean(np.asarray(answers, float), np.asarray(images, float))}
    return forgotten.line("semi", config.stage("semi"), HEALTH, names, sums, config.train)


def test_a_class_without_answers_is_named_with_the_key():
    assert line([56, 1, 51], [36, 36, 36]) == (
        "semi: the teacher hardly ever answers with bee (1 answer to 36 images); config.semi.pseudo_label_rule = "
        "'free' asks less of classes that come seldom, 'aligned(fixed)' leads to the classes' shares among "
        "the labeled images"
    )


@pytest.mark.parametrize(
    ("answers", "images"),
    [
        ([36, 36, 36], [36, 36, 36]),
        ([48, 12, 48], [36, 36, 36]),  # a third: a collapse is below a half, and chance may have its part
        ([18, 0, 9], [9, 9, 9]),  # so few may all be taken for another by chance
        ([40, 0, 40], [40, 0, 40]),  # of no class are no images
    ],
)
def test_what_chance_explains_is_not_told(answers, images):
    assert line(answers, images) == ""


def test_the_limit_is_the_guard_s():
    few = ([48, 12, 48], [36, 36, 36])
    assert "bee (12 answers to 36 images)" in line(*few, **{"train.collapse_accuracy_share": 0.9})
    assert line([20, 0, 10], [10, 10, 10]).count("answers to") == 1


def test_the_first_five_are_named():
    names = [f"class {n}" for n in range(8)]
    told = line([0] * 7 + [8 * 36], [36] * 8, names=names)
    assert "class 4 (0 answers to 36 images) and 2 more classes; " in told
    assert "class 5" not in told


@pytest.mark.parametrize("rule", ["aligned(fixed)", "free", "tempered(flex)", "debiased(soft)", "simpro"])
def test_a_rule_that_evens_out_is_not_told_to_do_so(rule):
    told = line([72, 0, 36], [36, 36, 36], rule=rule)
    assert told.endswith("; lower config.semi.unlabeled_weight, or label more images of these classes")


def test_a_bank_asks_no_teacher():
    assert line([72, 0, 36], [36, 36, 36], rule="bank", **{"semi.bank": "some.bank"}) == ""


def test_answers_are_counted_of_real_images():
    logits, labels = np.eye(3)[[0, 0, 1, 0]], np.array([0, 1, 1, 2])
    answers, images = scores.class_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray([1.0, 1, 1, 0]))[
        scores.CLASS_ANSWERS
    ]
    np.testing.assert_array_equal(answers, [2, 1, 0])
    np.testing.assert_array_equal(images, [1, 2, 0])


def test_it_is_asked_after_warm_up_and_at_the_end():
    """Warm-up ends after five updates; evaluated after every tenth, and after the last."""
    plan, config = small_plan("semi"), small_config(**{"semi.warmup_epochs": 0.5})
    asked = [step for step in (5, 10, 20) if forgotten.is_due(plan, config.stage("semi"), step)]
    assert asked == [10, 20]
    longer = small_plan("semi", total_steps=35)
    asked = [step for step in (10, 20, 30, 35) if forgotten.is_due(longer, config.stage("semi"), step)]
    assert asked == [10, 35]
