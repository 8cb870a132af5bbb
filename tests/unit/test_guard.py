"""The guard counts dropped updates, and tells a collapse from a slow start."""

import json

import pytest

from semivit_jax.stages.spec import Health
from semivit_jax.training import guard
from semivit_jax.training.guard import History
from tests.configs import small_config

CONFIG = small_config(
    **{
        "train.max_nonfinite_in_a_row": 3,
        "train.collapse_window_steps": 4,
        "train.collapse_mask_rate_share": 0.1,
        "train.collapse_accuracy_share": 0.5,
    }
).train


HEALTH = Health("mask_rate", "val_ema/acc1", "the teacher's accuracy")


def steps(rates, history=History(), *, first=1, armed=True):  # noqa: B008 - frozen
    """Feeds mask rates, None for a dropped update; returns (history, complaints by step)."""
    complaints = {}
    for step, rate in enumerate(rates, first):
        history, complaint = guard.after_step(
            history, step=step, dropped=rate is None, rate=rate, health=HEALTH, armed=armed, config=CONFIG
        )
        if complaint:
            complaints[step] = complaint
    return history, complaints


def evaluations(accuracies, *, armed=True, images=10_000):
    history, complaints = History(), {}
    for step, accuracy in enumerate(accuracies, 1):
        history, complaint = guard.after_evaluation(
            history, step=10 * step, score=accuracy, images=images, health=HEALTH, armed=armed, config=CONFIG
        )
        if complaint:
            complaints[10 * step] = complaint
    return history, complaints


def test_dropped_updates_are_counted_and_only_a_row_of_them_stops():
    history, complaints = steps([0.5, None, None, 0.5, None, None, 0.5])
    assert not complaints
    assert (history.dropped, history.dropped_in_a_row) == (4, 0)


def test_a_row_of_dropped_updates_stops_and_says_since_when():
    history, complaints = steps([0.5, None, 0.5, None, None, None])
    assert list(complaints) == [6]
    assert "3 updates in a row, since step 4" in complaints[6].text
    assert complaints[6].healthy_until == 6  # dropped updates left the weights alone
    assert history.dropped == 4


def test_the_row_goes_on_over_a_restart():
    history, _ = steps([0.5, None, None])
    restored = guard.load(json.loads(json.dumps(vars(history))))
    assert restored == history
    assert "since step 2" in steps([None], restored, first=4)[1][4].text


def test_mask_rate_collapses_against_its_own_best():
    _, complaints = steps([0.8] * 4 + [0.0] * 4)
    assert list(complaints) == [8]
    assert complaints[8].text.startswith(
        "mask_rate collapsed: its mean over the last 4 steps is 0.0000, its best was 0.8000"
    )
    assert complaints[8].healthy_until == 4


@pytest.mark.parametrize("rates", [[0.0] * 20, [0.01] * 20, [0.8] * 4 + [0.1] * 20, [0.8, 0.0] * 10])
def test_low_or_sinking_mask_rates_are_no_collapse(rates):
    assert not steps(rates)[1]


def test_nothing_collapses_before_warmup_is_over():
    assert not steps([0.8] * 4 + [0.0] * 4, armed=False)[1]
    assert not evaluations([0.9, 0.1, 0.1], armed=False)[1]


def test_a_stage_without_health_drops_updates_and_collapses_never():
    history, complaint = guard.after_step(
        History(), step=1, dropped=True, rate=None, health=None, armed=True, config=CONFIG
    )
    assert (history.dropped, complaint) == (1, None)
    history, complaint = guard.after_step(
        history, step=2, dropped=False, rate=None, health=None, armed=True, config=CONFIG
    )
    assert (history.mask_rates, complaint) == ((), None)


def test_teacher_accuracy_collapses_at_two_evaluations_in_a_row():
    _, complaints = evaluations([0.5, 0.8, 0.3, 0.9, 0.4, 0.3])
    assert list(complaints) == [60]
    assert complaints[60].text == (
        "the teacher's accuracy collapsed: 0.3000, its best was 0.9000; low since step 50 "
        "(config.train.collapse_accuracy_share = 0.5)"
    )
    assert complaints[60].healthy_until == 40


@pytest.mark.parametrize(
    ("images", "low", "stops"),
    [
        (6, 2, False),  # of six at chance among three classes, with five right at best
        (6, 0, False),
        (60, 20, False),
        (60, 10, True),
        (600, 200, True),
    ],
)
def test_of_few_images_a_low_score_may_be_chance(images, low, stops):
    """Wilson's interval at three standard deviations; for 10 of 60 it ends at 0.36, below half of 0.83."""
    assert bool(evaluations([5 / 6, low / images, low / images], images=images)[1]) == stops


def test_half_of_the_best_accuracy_is_still_enough():
    assert not evaluations([0.8, 0.4, 0.4, 0.4])[1]


@pytest.mark.parametrize(
    ("rates", "verdict"), [([0.0] * 20, "without effect"), ([0.0] * 19 + [0.001], "healthy"), ([None] * 2, "healthy")]
)
def test_a_stage_that_never_kept_anything_is_not_healthy(rates, verdict):
    """Also where warm-up lasts to the end: nothing was kept then either."""
    for armed in (True, False):
        assert guard.verdict(steps(rates, armed=armed)[0]) == verdict
