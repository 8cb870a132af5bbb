"""The linear probe: calibrated, folded into a head for raw features, and defined for the fewest labels."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from semivit_jax.training import linear_probe
from semivit_jax.training.linear_probe import choose, fit

CLASSES, WIDTH = 3, 8


def clouds(per_class, *, spread=1.5, seed=0, classes=CLASSES):
    """Features around a mean per class, on scales that differ from channel to channel."""
    generator = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(0, 1, (classes, WIDTH))
    labels = np.repeat(np.arange(classes), per_class)
    features = means[labels] + generator.normal(0, spread, (len(labels), WIDTH))
    return (features * np.geomspace(0.01, 30, WIDTH) + 5).astype(np.float32), labels


def probs(logits):
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def test_standardisation_and_temperature_are_folded_into_the_head():
    features, labels = clouds(10)
    probe = fit(features, labels, num_classes=CLASSES)
    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float)
    model = LogisticRegression(C=probe.penalty, max_iter=5000).fit((features - mean) / std, labels)
    new = clouds(20, seed=1)[0]
    expected = model.predict_log_proba((new - mean) / std) / probe.temperature
    np.testing.assert_allclose(probs(probe.logits(new)), probs(expected), atol=2e-3)
    assert (probe.kernel.dtype, probe.bias.dtype, probe.folds) == (np.float32, np.float32, 5)


def test_it_is_as_sure_as_it_is_right():
    features, labels = clouds(30)
    new, truth = clouds(2000, seed=1)
    found = probs(fit(features, labels, num_classes=CLASSES).logits(new))
    right = np.mean(found.argmax(axis=1) == truth)
    assert 0.6 < right < 0.9
    assert found.max(axis=1).mean() == pytest.approx(right, abs=0.06)


def test_the_penalty_is_the_best_of_the_grid_on_images_left_out():
    features, labels = clouds(8, spread=2.5)
    new, truth = clouds(2000, spread=2.5, seed=1)
    chosen = fit(features, labels, num_classes=CLASSES)
    freest = _with_penalty(features, labels, max(linear_probe.PENALTIES))
    assert np.mean(chosen.logits(new).argmax(axis=1) == truth) >= np.mean(freest.logits(new).argmax(axis=1) == truth)
    assert chosen.penalty < max(linear_probe.PENALTIES)


def _with_penalty(features, labels, penalty):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_probe, "PENALTIES", (penalty,))
        return fit(features, labels, num_classes=CLASSES)


def test_a_probe_that_is_always_right_on_few_images_is_not_sure_of_everything():
    features, labels = clouds(2, spread=0.01)
    found = probs(fit(features, labels, num_classes=CLASSES).logits(features)).max(axis=1)
    assert found.max() < 0.99


def test_the_same_images_give_the_same_bits():
    first, again = (fit(*clouds(6), num_classes=CLASSES) for _ in range(2))
    assert first.kernel.tobytes() == again.kernel.tobytes()
    assert first.bias.tobytes() == again.bias.tobytes()


def test_one_image_a_class_leaves_nothing_to_validate_on():
    features, labels = clouds(1)
    probe = fit(features, labels, num_classes=CLASSES)
    assert (probe.penalty, probe.temperature, probe.folds) == (linear_probe.UNCHECKED_PENALTY, 1.0, 0)
    assert (probe.logits(features).argmax(axis=1) == labels).all()


def test_a_class_with_one_image_is_fitted_on_and_never_left_out():
    """scikit-learn would warn of such a class, or leave it out of a fold's fit."""
    features, labels = clouds(6, spread=0.3)
    kept = np.r_[0, np.flatnonzero(labels > 0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = fit(features[kept], labels[kept], num_classes=CLASSES)
    assert probe.folds == 5
    assert probe.logits(features[:1]).argmax() == 0


def test_two_classes_have_two_outputs():
    features, labels = clouds(8, classes=2, spread=0.3)
    logits = fit(features, labels, num_classes=2).logits(features)
    assert logits.shape == (16, 2)
    assert (logits.argmax(axis=1) == labels).all()


def test_a_class_without_an_image_is_rare_and_never_impossible():
    features, labels = clouds(6, spread=0.3)
    labels = np.array([0, 2, 4])[labels]  # of five
    found = probs(fit(features, labels, num_classes=5).logits(features))
    assert (found.argmax(axis=1) == labels).all()
    assert (found[:, [1, 3]] > 0).all()
    assert found[:, [1, 3]].mean() == pytest.approx(1 / 18, rel=0.5)


def test_a_constant_feature_is_no_matter():
    features, labels = clouds(4)
    features[:, 0] = 7.0
    assert np.isfinite(fit(features, labels, num_classes=CLASSES).kernel).all()


def test_all_images_are_fitted_on_where_there_is_time(monkeypatch):
    labels = np.repeat(np.arange(4), 5)
    assert choose(labels, num_classes=4, width=10, seed=0).tolist() == list(range(20))
    monkeypatch.setattr(linear_probe, "MOST_WORK", 4 * 10 * 12)  # twelve images
    chosen = choose(labels, num_classes=4, width=10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 3, 3]
    assert chosen.tolist() == choose(labels, num_classes=4, width=10, seed=0).tolist()
    assert chosen.tolist() != choose(labels, num_classes=4, width=10, seed=1).tolist()
    monkeypatch.setattr(linear_probe, "MOST_WORK", 4 * 10 * 7)  # one of each class
    assert not len(choose(labels, num_classes=4, width=10, seed=0))
