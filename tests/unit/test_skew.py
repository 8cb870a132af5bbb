"""Skewed labels: the balanced order, accuracy that counts rare classes, and the line at the start."""

import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.data.order import StreamOrder
from semivit_jax.ops import scores
from semivit_jax.training import skew
from tests.configs import small_config

CLASSES = np.array([0] * 7 + [1] * 3 + [4])


def balanced(seed=0):
    return StreamOrder(np.arange(100, 111), seed, "semi/labeled", CLASSES)


# ---- the balanced order


def test_every_class_comes_equally_often():
    places = balanced().place_at(np.arange(300))
    np.testing.assert_array_equal(np.bincount(CLASSES[places])[[0, 1, 4]], 100)
    blocks = CLASSES[places].reshape(-1, 3)
    np.testing.assert_array_equal(np.sort(blocks, axis=1), np.tile([0, 1, 4], (100, 1)))
    assert len({tuple(block) for block in blocks}) > 1


def test_the_images_of_a_class_are_passed_one_after_the_other():
    places = balanced().place_at(np.arange(3 * 21))
    for label, size in ((0, 7), (1, 3)):
        of_class = places[CLASSES[places] == label].reshape(-1, size)
        for one_pass in of_class:
            assert set(one_pass) == set(np.flatnonzero(np.equal(CLASSES, label)))
        assert len({tuple(one_pass) for one_pass in of_class}) > 1


def test_a_balanced_order_is_a_function_of_position_and_seed():
    whole = balanced().place_at(np.arange(60))
    np.testing.assert_array_equal(balanced().place_at(np.array([[59, 3], [17, 0]])), whole[[[59, 3], [17, 0]]])
    assert (balanced(seed=1).place_at(np.arange(60)) != whole).any()


# ---- accuracy


def test_balanced_accuracy_is_the_mean_of_the_classes():
    assert scores.balanced_acc1([1.0, None, 0.5]) == 0.75
    assert scores.balanced_acc1([None]) == 0.0


def test_thirds_go_by_the_labels_and_are_told_of_skewed_ones_alone():
    accuracy, labeled = [0.1, 0.9, 0.5, 0.6, 0.2, None], [1, 100, 10, 20, 2, 80]
    assert scores.thirds(accuracy, labeled) == pytest.approx({"head": 0.9, "middle": 0.55, "tail": 0.15})
    assert scores.thirds(accuracy, [7] * 6) == {}
    assert scores.thirds([0.1, 0.2], [1, 2]) == {}


def test_an_evaluation_in_training_tells_them_of_all_batches():
    logits, labels = np.eye(3)[[0, 0, 1, 0, 2, 2]], np.array([0, 0, 1, 1, 2, -1])
    mask = np.array([1.0, 1, 1, 1, 1, 0])
    sums = {}
    for rows in (slice(0, 3), slice(3, 6)):
        graded = (jnp.asarray(logits[rows]), jnp.asarray(labels[rows]), jnp.asarray(mask[rows]))
        found = scores.base_sums(*graded) | scores.class_sums(*graded)
        sums = {
            k: (v if not sums else type(v)(sums[k].total + v.total, sums[k].count + v.count)) for k, v in found.items()
        }
    told = scores.training_scores(sums, [10, 5, 1])
    assert told["acc1"] == pytest.approx(4 / 5)
    assert told["balanced_acc1"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert (told["acc1_head"], told["acc1_middle"], told["acc1_tail"]) == (1.0, 0.5, 1.0)
    assert "acc1_tail" not in scores.training_scores(sums, [4, 4, 4])


# ---- the line


def line(labeled, **changes):
    return skew.line(small_config(**changes), ("ant", "bee", "cat"), labeled)


def test_skewed_labels_are_told_with_the_keys_that_help():
    told = line((200, 40, 5))
    assert "ant has 200 labeled images, cat 5, 40 times fewer" in told
    assert "config.finetune.labeled_loss = 'logit_adjusted' and config.semi.labeled_loss = 'logit_adjusted'" in told


@pytest.mark.parametrize("labeled", [(20, 5, 5), (4, 4, 4), (4, 0, 4), (0, 0, 0)])
def test_nothing_is_said_of_labels_that_are_about_even(labeled):
    assert line(labeled) == ""


def test_a_rule_that_adjusts_the_labeled_loss_wants_no_other():
    told = line((200, 40, 5), **{"semi.pseudo_label_rule": "tempered(simpro)"})
    assert "; config.finetune.labeled_loss = 'logit_adjusted' would help rare classes" in told
    assert "config.semi" not in told


def test_keys_that_are_set_are_not_advised():
    changes = {f"{stage}.labeled_loss": "class_balanced" for stage in ("finetune", "semi")}
    assert "the labeled loss allows for it" in line((200, 40, 5), **changes)
    assert line((200, 40, 5), stages=("mae",)) == ""
