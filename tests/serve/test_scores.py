"""Grades: known answers, batches that add up, and the base numbers that training prints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.ops import confusion, metrics, scores
from semivit_jax.training import probes, sharding
from semivit_jax.training.evaluate import sums
from tests.compiled import quick_jit

LABELS = np.array([0, 0, 1, 2, 2, 2])
PROBS = np.array([[0.7, 0.2, 0.1, 0], [0.3, 0.6, 0.1, 0], [0.1, 0.8, 0.1, 0],
                  [0.1, 0.2, 0.7, 0], [0.4, 0.3, 0.3, 0], [0.05, 0.05, 0.9, 0]])  # fmt: skip


def both(logits, label, mask):
    return {**scores.base_sums(logits, label, mask), **scores.detail_sums(logits, label, mask)}


grade = quick_jit(both)


def found(probs=PROBS, labels=LABELS):
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    return graded(logits, labels)


def graded(logits, labels):
    sums_of_all = jax.tree.map(np.asarray, grade(jnp.asarray(logits), labels, np.ones(len(labels))))
    return scores.scores(sums_of_all, confusion.count(labels, logits.argmax(axis=1), num_classes=logits.shape[1]))


def test_known_answers():
    known = found()
    assert known.num_images == 6
    assert known.acc1 == pytest.approx(4 / 6)
    assert known.class_acc == (0.5, 1.0, pytest.approx(2 / 3), None)
    np.testing.assert_array_equal(known.confusion.matrix(), [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])


def test_calibration_error_of_known_bins():
    # 0.7 twice (both right) and 0.6, 0.8, 0.4, 0.9 stand in five of the 15 bins.
    expected = (2 * (1 - 0.7) + 0.6 + (1 - 0.8) + 0.4 + (1 - 0.9)) / 6
    assert found().ece == pytest.approx(expected, abs=1e-6)
    bins = [(one.count, pytest.approx(one.confidence), one.acc1) for one in found().bins]
    assert bins == [(1, 0.4, 0), (1, 0.6, 0), (2, 0.7, 1), (1, 0.8, 1), (1, 0.9, 1)]
    certain = np.eye(4)[LABELS]
    assert found(certain).ece == 0
    assert found(certain, 3 - LABELS).ece == 1


@pytest.mark.parametrize(("confidences", "expected"), [((0.7, 0.75), (0.7 + 0.25) / 2), ((0.68, 0.7), 0.38 / 2)])
def test_errors_of_opposite_sign_cancel_inside_a_bin_only(confidences, expected):
    probs = np.array([[c, 1 - c] for c in confidences])
    assert found(probs, np.array([1, 0])).ece == pytest.approx(expected, abs=1e-6)


def test_a_class_that_is_ruled_out_is_no_top5_answer():
    assert found().acc5 == 1
    assert found(labels=np.array([0, 0, 1, 2, 2, 3])).acc5 == pytest.approx(5 / 6)


def test_padded_batches_add_up_to_the_whole():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 7)).astype(np.float32), generator.integers(0, 7, 40)
    whole = graded(logits, labels)

    def batches():
        for start in range(0, 48, 12):
            rows = np.arange(start, start + 12)
            real = rows < 40
            yield {"image": logits[rows % 40], "label": np.where(real, labels[rows % 40], -1), "mask": real * 1.0}

    step = quick_jit(lambda params, batch: both(batch["image"] + params, batch["label"], batch["mask"]))
    parts = scores.scores(sums(step, 0.0, batches(), mesh=sharding.make_mesh(1)), whole.confusion)
    np.testing.assert_allclose(
        [parts.acc1, parts.acc5, parts.loss, parts.ece], [whole.acc1, whole.acc5, whole.loss, whole.ece], rtol=1e-6
    )
    assert parts.class_acc == whole.class_acc
    assert metrics.compute(grade(jnp.asarray(logits), labels, np.ones(40)))["loss"] == pytest.approx(whole.loss)


def clusters(seed, count):
    """Three directions in ten dimensions, with noise; class 3 of 4 has no image."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = 3 * np.eye(10)[:3]
    return (centres[labels] + 0.3 * generator.normal(size=(count, 10))).astype(np.float32), labels


@pytest.mark.parametrize("fit", [probes.knn, probes.linear])
def test_probes_find_classes_that_lie_apart(fit):
    labeled, labels = clusters(0, 60)
    features, expected = clusters(1, 60)
    logits = fit(labeled, labels, num_classes=4)(features)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected)
    assert np.isneginf(logits[:, 3]).all()


def test_neighbours_vote_by_their_cosine():
    labeled = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    logits = probes.knn(labeled, np.array([0, 1, 1]), num_classes=3)(np.array([[5.0, 0.0]]))
    half = np.sqrt(0.5)
    expected = [0.0, np.log(np.exp(-1 / 0.07) + np.exp((half - 1) / 0.07)), -np.inf]
    np.testing.assert_allclose(logits[0], expected, rtol=1e-6)


def test_only_the_nearest_vote():
    labeled = np.concatenate([np.tile([1.0, 0.1], (20, 1)), np.tile([1.0, 0.2], (30, 1))])
    logits = probes.knn(labeled, np.arange(50) // 20, num_classes=3)(np.array([[1.0, 0.0]]))
    assert np.isneginf(logits[0, 1:]).all()


def test_linear_probabilities_add_up_and_do_not_depend_on_scale():
    labeled, labels = clusters(0, 12)
    features, _ = clusters(1, 30)
    logits = probes.linear(labeled, labels, num_classes=4)(features)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1)
    scaled = probes.linear(1000 * labeled + 5, labels, num_classes=4)(1000 * features + 5)
    np.testing.assert_allclose(np.exp(scaled), np.exp(logits), atol=1e-3)


def test_one_class_alone_cannot_be_probed():
    with pytest.raises(ValueError, match="at least two classes"):
        probes.linear(np.ones((3, 2)), np.zeros(3, int), num_classes=2)
