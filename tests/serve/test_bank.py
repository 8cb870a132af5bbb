"""`semivit bank`: what runs say of all training images, joined as means or votes."""

import dataclasses

import jax
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.data import bank
from semivit_jax.data.rows import decode_all
from semivit_jax.inference import banking
from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from tests.compiled import quick_jit
from tests.models import network_of
from tests.serve.runs import TINY, digits, write_run

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections loads configs so


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """(folder, config, probabilities by `params` and by `ema_params` of all training images)."""
    folder = tmp_path_factory.mktemp("bank") / "run"
    settings, *trees = write_run(folder)
    pixels = decode_all(digits().train, settings.data).images
    inputs = ((pixels / 255.0 - np.array(settings.data.mean)) / np.array(settings.data.std)).astype(np.float32)
    model = network_of(settings, image_size=8, num_classes=10)
    softmax = quick_jit(lambda tree: jax.nn.softmax(model.logits(tree, inputs, None)))
    return folder, settings, [np.asarray(softmax(tree)) for tree in trees]


def classifiers(folder):
    return [load_trained(folder, kept="latest", tree=tree, stage=None) for tree in ("params", "ema_params")]


def dense(found):
    """Probabilities [n, K] of a bank that keeps all classes."""
    probs = np.zeros(found.probs.shape)
    np.put_along_axis(probs, found.classes, found.probs, axis=1)
    return probs


def test_one_classifier_gives_back_its_softmax(one):
    folder, settings, (probs, _) = one
    found = banking.make_bank(classifiers(folder)[:1], settings, digits(), combine="means")
    np.testing.assert_allclose(dense(found), probs, atol=1e-5)
    assert (np.diff(found.probs, axis=1) <= 0).all()
    assert found.images == bank.hash_of(digits().train.names)


def test_means_are_of_probabilities_and_their_order_does_not_matter(one):
    folder, settings, probs = one
    found = banking.make_bank(classifiers(folder), settings, digits(), combine="means")
    np.testing.assert_allclose(dense(found), np.mean(probs, axis=0), atol=1e-5)
    again = banking.make_bank(classifiers(folder)[::-1], settings, digits(), combine="means")
    np.testing.assert_allclose(dense(again), dense(found), atol=1e-6)


def test_votes_are_shares_however_sure_a_classifier_is(one):
    folder, settings, probs = one
    found = banking.make_bank(classifiers(folder), settings, digits(), combine="votes")
    expected = np.mean([np.eye(10)[p.argmax(axis=1)] for p in probs], axis=0)
    np.testing.assert_array_equal(dense(found), expected)
    assert set(np.unique(found.probs)) == {0.0, 0.5, 1.0}
    alike = banking.make_bank(classifiers(folder)[:1] * 2, settings, digits(), combine="votes")
    np.testing.assert_array_equal(alike.probs[:, 0], 1.0)


def test_a_classifier_of_other_classes_is_refused(one):
    folder, settings, _ = one
    task = dataclasses.replace(digits(), class_names=("zero", *digits().class_names[1:]))
    with pytest.raises(ConfigError, match="cannot be asked about these images"):
        banking.make_bank(classifiers(folder)[:1], settings, task, combine="means")


def test_the_command_writes_a_bank_of_the_configs_images(one, tmp_path, capsys):
    folder, _, (_, averaged) = one
    tiny = [f"--config.{key}={value}" for key, value in TINY.items()]
    out = tmp_path / "digits.bank"
    assert main(["semivit", "bank", "--config=digits", *tiny, f"--runs={folder}", f"--out={out}"]) == 0
    found = bank.load(out, names=digits().train.names, class_names=digits().class_names)
    np.testing.assert_allclose(dense(found), averaged, atol=1e-3)  # kept in 16 bits
    right = np.mean(averaged.argmax(axis=1) == digits().train.labels)
    assert f"right of 1,437 images with a known label: {right:.1%}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--config=digits"], "--runs"),
        (["--config=digits", "--runs=,", "--out=x"], "--runs=RUN,RUN must be given"),
        (["--runs=a", "--out=x"], "--config"),
        (["--config=digits", "--runs=a", "--out=x", "--combine=maxima"], "maxima"),
    ],
)
def test_what_is_missing_is_bad_usage(flags, told, capsys):
    assert main(["semivit", "bank", *flags]) == 2
    assert told in capsys.readouterr().err
