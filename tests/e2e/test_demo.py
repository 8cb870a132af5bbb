"""The demo as the README shows it, one seed of it, within brackets; minutes, so it is slow."""

import json

import pytest

from semivit_jax import files
from semivit_jax.training import run
from tests.golden import recipes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    run.train(recipes.load("digits", ""), files.path(str(folder / "run")))
    return json.loads((folder / "run" / "summary.json").read_text())


def test_the_teacher_is_as_good_as_the_readme_says(summary):
    assert 0.93 <= summary["stages"]["semi"]["ema_acc1"] <= 0.98


def test_the_third_stage_gains_much(summary):
    gained = summary["stages"]["semi"]["ema_acc1"] - summary["stages"]["finetune"]["acc1"]
    assert 0.06 <= gained <= 0.25


def test_no_class_is_left_out(summary):
    """Nor is one told of where there is none: `training/forgotten.py`."""
    assert not [line for line in summary["remarks"] if "hardly ever answers" in line]


def test_pseudo_labels_are_many_and_right(summary):
    found = summary["stages"]["semi"]
    assert found["mask_rate"] >= 0.9
    assert found["pseudo_label_acc"] >= 0.93
