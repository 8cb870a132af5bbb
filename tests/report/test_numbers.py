"""What a report works out by itself: intervals, curves, shares, suspicions, twins, advice."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.flipped_labels import flipped
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.grades import Answers
from semivit_jax.report import accuracy, advice, curves, intervals, of_images, sample, space, suspects, twins
from tests.configs import small_config
from tests.report.made import png


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (1.0, 10, 0.7225, 1.0), (0.0, 5, 0.0, 0.4345), (0.95, 360, 0.9224, 0.9682)],
)
def test_wilson_s_interval_is_the_published_one(share, count, low, high):
    """Of 5 of 10: Brown, Cai and DasGupta 2001; the others by the formula with z = 1.96."""
    assert intervals.wilson(share, count) == pytest.approx((low, high), abs=2e-4)


def test_of_no_image_an_interval_holds_everything():
    assert intervals.wilson(0.0, 0) == (0.0, 1.0)


def test_a_paired_difference_is_surer_than_two_intervals():
    generator = np.random.default_rng(0)
    first = generator.random(400) < 0.8
    second = first | (generator.random(400) < 0.3)  # never wrong where the first is right
    low, high = intervals.paired(first, second)
    assert low < second.mean() - first.mean() < high
    assert low > 0
    apart = [intervals.wilson(float(answers.mean()), 400) for answers in (first, second)]
    assert high - low < sum(one.high - one.low for one in apart)


def test_equal_answers_leave_an_interval_around_nothing():
    same = np.random.default_rng(0).random(50) < 0.5
    low, high = intervals.paired(same, same)
    assert low < 0 < high


def test_long_lines_are_drawn_by_means_and_end_where_they_end():
    line = [(step, float(step % 2)) for step in range(1, 1001)]
    thin = curves.thinned(line, 100)
    assert len(thin) == 100
    assert thin[-1][0] == 1000
    assert {value for _, value in thin} == {0.5}
    assert curves.thinned(line[:100], 100) == line[:100]


def answers(probs, right):
    probs, right = np.asarray(probs, np.float32), np.asarray(right)
    return Answers(np.arange(len(right)), np.zeros(len(right), int), 1 - right[:, None].astype(int), probs[:, None])


def test_abstaining_gives_the_surest_answers_first():
    found = accuracy.abstaining(answers([0.9, 0.8, 0.7, 0.6], [True, True, False, False]))
    assert found["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert found["acc1"] == pytest.approx([1.0, 1.0, 2 / 3, 0.5])
    half = next(row for row in found["chosen"] if row["coverage"] == 0.5)
    assert (half["acc1"], half["confidence"]) == (1.0, pytest.approx(0.8))


def test_equally_sure_answers_are_given_together():
    found = accuracy.abstaining(answers([0.9, 0.5, 0.5, 0.5], [True, True, False, False]))
    assert found["coverage"] == [0.25, 1.0]
    assert found["acc1"] == [1.0, 0.5]


def blobs(per_class=40, classes=3):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), per_class)
    return generator.normal(size=(len(labels), 6)) + 8 * np.eye(6)[labels], labels


def test_labels_that_were_flipped_are_suspected_first():
    features, labels = blobs()
    flipped = np.array([3, 50, 90])
    wrong = labels.copy()
    wrong[flipped] = (labels[flipped] + 1) % 3
    found = suspects.find(features, wrong, seed=0)
    assert found.places.tolist() == list(range(len(labels)))
    assert np.flatnonzero(~found.agrees).tolist() == flipped.tolist()
    assert {one.place for one in found.suspects} <= set(flipped.tolist())
    assert len(found.suspects) >= 2
    own = suspects.held_out_probs(features, wrong, seed=0)[np.arange(len(wrong)), wrong]
    assert set(np.argsort(own)[:3].tolist()) == set(flipped.tolist())
    assert all(one.better == labels[one.place] for one in found.suspects)
    assert all(one.own < one.other for one in found.suspects)


def test_classes_of_one_or_two_images_are_not_judged():
    features, labels = blobs()
    few = np.concatenate([labels, [3, 4, 4]])
    found = suspects.find(np.concatenate([features, np.ones((3, 6))]), few, seed=0)
    assert found.places.tolist() == list(range(len(labels)))


def test_why_no_label_is_judged_is_told(monkeypatch):
    with pytest.raises(ValueError, match="it takes two classes that have 3 labels each"):
        suspects.find(np.ones((4, 2)), np.arange(4), seed=0)
    monkeypatch.setattr(suspects, "MOST_WORK", 120 * 3 * 6 - 1)
    with pytest.raises(ValueError, match="120 images of 3 classes would take too long; a smaller --most judges"):
        suspects.find(*blobs(), seed=0)


def seen(role, features, labels):
    """Images of a role, with features."""
    images = ImageSet([b""] * len(labels), [f"{role}{k}" for k in range(len(labels))], labels.astype(np.int32))
    return sample.Seen(role, images, np.arange(len(labels)), features)


def test_a_judge_says_what_it_knows_of_the_labels_of_its_role_alone():
    """Labeled images are known well, evaluation images are noise: what the judge knows of one says nothing of both."""
    features, labels = blobs()
    noise = np.random.default_rng(1).normal(size=features.shape)
    by = {"labeled": seen("labeled", features, labels), "evaluation": seen("evaluation", noise, labels)}
    known, unknown = (suspects.judge(by, role, seed=0, is_fitted=False) for role in by)
    assert known.count == unknown.count == 120
    assert known.right > 0.9
    assert unknown.right < 0.5
    assert not known.is_weak
    assert unknown.is_weak
    assert unknown.suspects  # which nobody should be shown
    assert {one.place for one in unknown.suspects} <= set(range(120))
    told = of_images.labels({"labeled": known, "evaluation": unknown}, ["a", "b", "c"])
    assert {one["role"] for one in told["suspects"]} <= {"labeled"}
    assert told["checked"] == 120
    assert [one["is_weak"] for one in told["judges"]] == [False, True]
    nothing = of_images.labels({"evaluation": unknown}, ["a", "b", "c"])
    assert (nothing["num_suspects"], nothing["suspects"], nothing["right"]) == (0, [], None)


def test_a_role_of_which_no_label_is_judged_says_so():
    features, labels = blobs()
    by = {
        "labeled": seen("labeled", features, labels),
        "evaluation": seen("evaluation", np.ones((2, 6)), np.array([3, 4])),
    }
    with pytest.raises(ValueError, match="none is of a class that has 3 labels"):
        suspects.judge(by, "evaluation", seed=0, is_fitted=False)


def test_what_a_judge_must_know_begins_at_what_naming_one_class_gives():
    even, skewed = np.repeat(np.arange(10), 10), np.repeat([0, 1], [90, 10])
    assert suspects.least_right(even) == pytest.approx(0.1 + 0.9 * suspects.LEAST_SKILL)
    assert suspects.least_right(skewed) == pytest.approx(0.9 + 0.1 * suspects.LEAST_SKILL)


@pytest.mark.parametrize(("noise", "is_weak"), [(2, False), (15, True)])
def test_half_of_the_suspicions_of_a_judge_that_is_trusted_hold(noise, is_weak):
    """On pixels of the digits, a tenth of whose labels is flipped: the measurement of benchmarks/weak_judges.py."""
    digits, generator = load_digits(), np.random.default_rng(0)
    chosen = generator.permutation(len(digits.target))[:400]
    pixels = digits.data[chosen] + noise * generator.normal(size=(400, 64))
    changed, is_wrong = flipped(digits.target[chosen], 0)
    found = suspects.judge({"labeled": seen("labeled", pixels, changed)}, "labeled", seed=0, is_fitted=False)
    assert found.is_weak == is_weak
    precision = is_wrong[[one.place for one in found.suspects]].mean()
    assert precision < 0.25 if is_weak else precision > 0.6


def test_as_many_are_suspected_as_count_for_another_class():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])  # usually 0.667 for class 0, 0.4 for class 1: the third counts for class 1
    places, better = suspects.suspected(probs, labels)
    assert places.tolist() == [2]
    assert better.tolist() == [1]
    places, _ = suspects.suspected(np.array([[0.6, 0.4], [0.9, 0.1], [0.4, 0.6]]), np.array([0, 0, 1]))
    assert places.tolist() == []


def test_twins_are_found_whatever_their_brightness():
    data = small_config(**{"data.max_pixels": 10_000}).data
    images = ImageSet([png(0), png(1), png(2), png(1)], ["a", "b", "c", "b again"], np.zeros(4, np.int32))
    small = twins.thumbnails(images, range(4), data)
    (pair,) = twins.pairs(small[3:], small[:3], alike=0.99)
    assert (pair.first, pair.second) == (0, 1)
    assert pair.correlation == pytest.approx(1.0)
    assert twins.pairs(small[:1], small[1:], alike=0.99) == []
    flat = np.zeros_like(small[:1])  # of one colour: like nothing, not like everything
    assert twins.pairs(flat, flat, alike=0.99) == []


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_images_are_laid_out_by_their_components(count):
    found = space.layout(np.random.default_rng(0).normal(size=(count, 5)), np.zeros(count, bool), seed=0)
    assert found.points.shape == (count, 2)
    assert "principal components" in found.method


def report(**changes):
    """The numbers of a run with which nothing is wrong."""
    row = {"method": "teacher", "acc1": 0.95, "low": 0.94, "high": 0.96, "num_images": 2000, "ours": True}
    per_class = {"labeled_per_class": {"a": 10, "b": 10}, "num_evaluated": 2000, "num_labeled": 20}
    per_class |= {"photos": "my photos", "labels": "", "is_graded": True}
    return {
        "run": {"state": "finished", "folder": "runs/a b", **per_class},
        "stages": [],
        "accuracy": [row],
        "brought": None,
    } | changes


def weak(name, **changes):
    row = {"name": name, "labeled": 4, "graded": 50, "right": 20, "acc1": 0.4, "low": 0.3, "high": 0.5}
    return row | {"taken_for": [{"name": "wolf", "count": 9}]} | changes


PSEUDO = {"stage": "s", "kept": 0.9, "right": 0.97, "confidences": [0.5, 0.8, 0.95], "key": "config.s.tau",
          "threshold": 0.7, "reached": 0.7}  # fmt: skip
ALL = {"coverage": 1.0, "acc1": 0.2}  # of the evaluation images are answered
FEW = PSEUDO | {"kept": 0.1, "confidences": [0.2, 0.55, 0.9]}
CASES = {
    "nothing": ({}, None),
    "stopped": ({"run": report()["run"] | {"state": "stopped"}}, "Start the same command again."),
    "few kept": ({"pseudo_labels": FEW}, "Lower config.s.tau from 0.7, for a start to 0.55."),
    "none kept": ({"pseudo_labels": FEW | {"kept": 0.0, "right": 0.0}}, "Lower config.s.tau from 0.7"),
    "few kept, and below the median": ({"pseudo_labels": FEW | {"confidences": [0.5, 0.8, 0.9]}}, None),
    "few kept, and the surer half is wrong": (
        {"pseudo_labels": FEW, "coverage": {"chosen": [ALL, {"coverage": 0.5, "acc1": 0.3}]}},
        "before you move config.s.tau."),
    "few kept, and the surer half is right": (
        {"pseudo_labels": FEW, "coverage": {"chosen": [ALL, {"coverage": 0.5, "acc1": 0.8}]}},
        "Lower config.s.tau"),
    "few and wrong kept": ({"pseudo_labels": FEW | {"right": 0.5}}, "before you move config.s.tau."),
    "wrong kept": ({"pseudo_labels": PSEUDO | {"right": 0.6}}, "Raise config.s.tau from 0.7, for a start to 0.8."),
    "wrong kept, near the median": ({"pseudo_labels": PSEUDO | {"right": 0.6, "confidences": [0.5, 0.72, 0.9]}},
                                    "Raise config.s.tau from 0.7, for a start to 0.72."),
    "wrong kept, above the median": ({"pseudo_labels": PSEUDO | {"right": 0.6, "confidences": [0.5, 0.6, 0.9]}}, None),
    "no threshold": ({"pseudo_labels": FEW | {"key": ""}}, None),
    "confidences not known": ({"pseudo_labels": FEW | {"confidences": []}}, None),
    "weak class": ({"classes": [weak("dog")], "overall": 0.95}, "Label more images of dog (40 %)."),
    "rare class": ({"run": report()["run"] | {"labeled_per_class": {"a": 2, "b": 90}}}, "rare classes, a first."),
    "wide": ({"accuracy": [report()["accuracy"][0] | {"low": 0.7, "high": 0.99, "num_images": 8}]}, "for evaluation"),
    "probe is better": ({"accuracy": [report()["accuracy"][0] | {"ours": False, "acc1": 0.97},
                                      report()["accuracy"][0]]}, "Change less of the weights"),
    "harm": ({"brought": {"points": -3.0, "from": "fine-tuning"}}, "Look at the pseudo labels"),
    "rising": ({"stages": [{"name": "s", "state": "finished", "gained_at_the_end": 0.03}]}, "config.s.epochs"),
    "unsure": ({"calibration": {"before": {"ece": 0.3}, "after": None}}, "Do not take the confidences"),
    "sure by a temperature": ({"calibration": {"before": {"ece": 0.3}, "after": {"ece": 0.05}}}, None),
    "waits": ({"time": {"waiting_share": 0.5, "goodput": 0.9, "total": 5.0}}, "Feed images faster"),
    "labels": ({"labels": {"suspects": [{"name": "x.jpg"}], "num_suspects": 1, "checked": 40, "right": 0.9}},
               "1 label that may be"),
    "labels whose judge is weak": ({"labels": {"suspects": [], "num_suspects": 0, "checked": 0, "right": None}}, None),
    "unlike": ({"unlike": [{"row": 1}]}, "least like any labeled one"),
    "twins": ({"twins": {"pairs": [1], "num_images": 3}}, "3 evaluation images with a twin"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), CASES.values(), ids=CASES)
def test_each_rule_speaks_where_its_numbers_say_so_and_gives_a_reason(changes, said):
    found = advice.given(report(**changes))
    assert [one for one in found if said and said in one["do"]] or (said is None and not found)
    assert all(one["why"] for one in found)
    assert len(found) == (said is not None)


@pytest.mark.parametrize(
    ("median", "reached"),
    [(0.003, 1.0), (0.0119, 1.0), (0.1, 1.0), (0.299, 0.5), (0.55, 1.0), (0.5549, 0.6), (0.9996, 1.0)],
)
def test_a_threshold_to_begin_with_keeps_half_and_the_reason_says_how_many(median, reached):
    """Never above the median of the confidences, also for a rule that asks for half of its key."""
    pseudo = FEW | {"confidences": [median / 2, median, (1 + median) / 2], "threshold": 1.0, "reached": reached}
    (found,) = advice.given(report(pseudo_labels=pseudo))
    suggested = float(found["do"].split()[-1].rstrip("."))
    assert 0.9 * median < suggested * reached <= median * (1 + 1e-9)
    share = float(found["why"].split("about ")[1].split()[0])
    assert 50 <= share < 60
    assert "10 % of the pseudo labels counted" in found["why"]


@pytest.mark.parametrize(("threshold", "share"), [(0.1, 0.9), (0.3, 0.7), (0.5, 0.5), (0.7, 0.3), (0.99, 0.1)])
def test_the_share_above_a_threshold_is_read_off_the_quantiles(threshold, share):
    assert advice.share_above([0.1, 0.5, 0.9], threshold) == pytest.approx(share)


def test_confidences_that_are_equal_to_the_threshold_reach_it():
    assert advice.share_above([0.3, 0.5, 0.5], 0.5) == pytest.approx(0.5)


def test_a_judge_of_labels_is_quoted_with_what_it_knows():
    labels = {"suspects": [{"name": "x.jpg"}], "num_suspects": 1, "checked": 40, "right": 0.9}
    (found,) = advice.given(report(labels=labels))
    assert "it guesses 90 % of them as they are" in found["why"]


def test_the_command_for_labeling_is_one_that_a_shell_takes():
    (found,) = advice.given(report(unlike=[{"row": 1}]))
    assert found["command"] == "semivit label --images='my photos' --labels=labels.csv --from='runs/a b'"


def test_a_run_without_a_head_has_no_guesses_to_label_with():
    (found,) = advice.given(report(unlike=[{"row": 1}], run=report()["run"] | {"is_graded": False}))
    assert found["command"] == "semivit label --images='my photos' --labels=labels.csv"
