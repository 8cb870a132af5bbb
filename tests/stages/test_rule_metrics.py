"""What is logged of a pseudo-label rule without being asked for."""

import numpy as np
import pytest

from semivit_jax.ops import metrics
from semivit_jax.stages.pseudo_label import PseudoLabels
from semivit_jax.stages.pseudo_metrics import MOST_CLASSES, rule_metrics
from tests.compiled import quick_jit
from tests.stages import small
from tests.stages.rules import EVERY_RULE, assign, evidence_of, known_of, made, random_logits
from tests.stages.test_semi import CONFIDENT

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.xdist_group("stages")]  # programs are shared

ALWAYS = {"kept_share", "mean_weight", "effective_share", "class_kept_min", "prior_distance"}
metrics_of = quick_jit(rule_metrics)


def told(labels, weight, *, classes=3, prior=(1, 1, 2), thresholds=None):
    weight, target = np.asarray(weight), np.eye(classes)[labels]
    prior = np.asarray(prior) / np.sum(prior)
    return metrics.compute(metrics_of(PseudoLabels(target, weight, weight, weight, thresholds), prior))


def test_numbers_by_hand():
    found = told([0, 0, 0, 2, 2], [1.0, 0.5, 0.0, 1.0, 0.25])
    wanted = {
        "kept_share": 4 / 5,
        "mean_weight": 2.75 / 5,
        "effective_share": 2.75**2 / (1 + 0.25 + 1 + 0.0625) / 5,
        "class_kept_min": 0.5,  # class 0; class 1 does not come
        "prior_distance": (abs(0.6 - 0.25) + 0.25 + abs(0.4 - 0.5)) / 2,
    }
    assert found == pytest.approx(wanted, rel=1e-12)


def test_nothing_kept_and_all_kept_are_numbers_too():
    none, all_kept = told([0, 1, 2, 2], np.zeros(4)), told([0, 1, 2, 2], np.ones(4))
    assert none == dict.fromkeys(ALWAYS, 0)
    assert all_kept == {name: float(name != "prior_distance") for name in ALWAYS}


def test_thresholds_are_told_by_class_where_classes_are_few():
    found = told([0], [1.0], thresholds=np.asarray([0.5, 0.25, 0.75]))
    assert {k: v for k, v in found.items() if k not in ALWAYS} == {
        "threshold_min": 0.25,
        "threshold_median": 0.5,
        "threshold_max": 0.75,
        "threshold_class_0": 0.5,
        "threshold_class_1": 0.25,
        "threshold_class_2": 0.75,
    }
    many = MOST_CLASSES + 1
    found = told([0], [1.0], classes=many, prior=np.ones(many), thresholds=np.linspace(0, 1, many))
    assert found.keys() == ALWAYS | {"threshold_min", "threshold_median", "threshold_max"}


@pytest.mark.parametrize(("text", "keys"), EVERY_RULE.values(), ids=EVERY_RULE.keys())
def test_every_rule_is_told_of(text, keys):
    known = known_of([1, 2, 3])
    _, pseudo = assign(made(text, known, **keys), evidence_of(random_logits()))
    found = metrics.compute(metrics_of(pseudo, known.label_prior))
    assert found.keys() >= ALWAYS
    assert all(0 <= value <= 1 for value in found.values())
    assert ("threshold_class_2" in found) == (
        not text.endswith(("fixed)", "fixed", "soft)", "soft", "bank", "simpro)", "simpro"))
    )


def test_they_are_of_the_whole_update_and_before_mixing():
    state, batch = small.initial_state("semi", teacher_scale=CONFIDENT), small.micro(small.semi_batch())
    after, found = small.compiled_update("semi", pseudo_label_rule="tempered(fixed)")(state, batch, small.semi_draws())
    assert found.keys() >= ALWAYS
    assert found["mean_weight"].total.shape == ()
    assert (
        0 < found["mean_weight"].total < found["mask_rate"].total
    )  # the larger weight of two counts for their mixture
    assert found["kept_share"].total == found["mean_weight"].total  # a threshold keeps whole images
    plain_after, plain = small.compiled_update("semi")(state, batch, small.semi_draws())
    assert plain.keys() == found.keys() - ALWAYS  # its compiled step stays what it was
    small.assert_close((plain_after, plain), (after, {name: found[name] for name in plain}))
