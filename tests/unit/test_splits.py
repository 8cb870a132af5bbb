"""The split: balanced, repeatable, nested, and refused when it cannot be or has changed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semivit_jax.data import splits

CLASSES = ("ant", "bee", "cat")
LABELS = np.repeat(np.array([0, 1, 2, -1], np.int32), [10, 20, 30, 40])[np.random.default_rng(0).permutation(100)]


def choose(labels=LABELS, *, seed=0, validation_share=0.0, labels_per_class=0, label_fraction=0.0, seen=()):
    return splits.choose_split(
        labels,
        labels_per_class=labels_per_class,
        label_fraction=label_fraction,
        validation_share=validation_share,
        seed=seed,
        class_names=CLASSES,
        seen=np.asarray(seen, np.int64),
    )


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(-1, 2), min_size=12, max_size=200),
    share=st.floats(0, 0.9),
    fraction=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32),
)
def test_roles_are_disjoint_sorted_and_complete(labels, share, fraction, seed):
    labels = np.array(labels)
    split = choose(labels, label_fraction=fraction, validation_share=share, seed=seed)
    roles = [split.labeled, split.unlabeled, split.validation]
    for role in roles:
        np.testing.assert_array_equal(role, np.unique(role))
    np.testing.assert_array_equal(np.sort(np.concatenate(roles)), np.arange(len(labels)))
    np.testing.assert_array_equal(split.training, np.sort(np.concatenate(roles[:2])))
    assert set(np.flatnonzero(labels < 0)) <= set(split.unlabeled)
    # A class that has images is never without a labeled one.
    assert set(labels[split.labeled]) == set(labels[labels >= 0])


def test_every_class_gets_the_same_number_of_labels():
    split = choose(labels_per_class=7)
    np.testing.assert_array_equal(np.bincount(LABELS[split.labeled]), [7, 7, 7])


def test_a_fraction_follows_class_sizes():
    split = choose(label_fraction=0.1)
    np.testing.assert_array_equal(np.bincount(LABELS[split.labeled]), [1, 2, 3])


def test_the_whole_fraction_labels_all_that_is_not_kept_back():
    split = choose(label_fraction=1.0, validation_share=0.1)
    np.testing.assert_array_equal(np.bincount(LABELS[split.validation]), [1, 2, 3])
    np.testing.assert_array_equal(np.bincount(LABELS[split.labeled]), [9, 18, 27])


def test_a_list_leaves_its_images_out_of_validation():
    labeled = np.flatnonzero(LABELS >= 0)[::2]
    split = splits.listed_split(
        LABELS,
        labeled=labeled,
        validation_share=0.2,
        seed=3,
        class_names=[str(i) for i in range(LABELS.max() + 1)],
    )
    np.testing.assert_array_equal(split.labeled, labeled)
    assert len(split.validation) == round(0.2 * np.sum(LABELS >= 0))
    assert not set(split.validation) & set(labeled)


def test_a_list_of_everything_leaves_nothing_for_validation():
    with pytest.raises(splits.SplitError, match=r"validation_share is 0.5.*'1'.*leaves 0 of its 4"):
        splits.listed_split(
            np.repeat([0, 1], 4),
            labeled=np.arange(2, 8),
            validation_share=0.5,
            seed=0,
            class_names=["0", "1"],
        )


def test_validation_share_is_met_in_total():
    labels = np.repeat(np.arange(3), 7)
    assert len(choose(labels, labels_per_class=1, validation_share=0.25).validation) == round(21 * 0.25)


def test_what_is_left_over_falls_to_classes_by_the_seed():
    """Three images per class: a fifth is one image of 24 classes in 40, and the alphabet has no say in which."""
    labels = np.repeat(np.arange(40), 3)

    def validated(seed):
        split = splits.choose_split(labels, label_fraction=1.0, validation_share=0.2, seed=seed, class_names=["x"] * 40)
        assert len(split.validation) == 24
        np.testing.assert_array_equal(np.unique(labels[split.validation], return_counts=True)[1], 1)
        return set(labels[split.validation].tolist())

    chosen = [validated(seed) for seed in range(100)]
    assert validated(0) == chosen[0] != chosen[1]
    times = [sum(label in one for one in chosen) for label in range(40)]
    assert min(times) > 40  # 60 of 100 on average, give or take 5
    assert max(times) < 80


def test_equal_remainders_are_equal_whatever_the_rounding():
    """As numbers, 0.2 * 14 - 2 is a bit more than 0.2 * 9 - 1."""
    labels = np.repeat(np.arange(20), [9, 14] * 10)
    fell_to_nine = 0
    for seed in range(20):
        split = splits.choose_split(labels, label_fraction=1.0, validation_share=0.2, seed=seed, class_names=["x"] * 20)
        counts = np.bincount(labels[split.validation], minlength=20)
        assert counts.sum() == 46  # 30 by whole numbers, 16 by the draw
        fell_to_nine += int(counts[::2].sum()) - 10
    assert 140 < fell_to_nine < 180  # 160 of 320 on average, give or take 4; 120 if the larger classes came first


def test_a_class_of_one_image_leaves_its_turn_to_another():
    labels = np.repeat(np.arange(8), [1, 1, 1, 1, 6, 6, 6, 6])
    split = splits.choose_split(labels, label_fraction=1.0, validation_share=0.2, seed=0, class_names=["x"] * 8)
    assert sorted(np.bincount(labels[split.validation])) == [0, 0, 0, 0, 1, 1, 2, 2]


def test_classes_without_a_validation_image_are_told():
    labels = np.repeat(np.arange(40), 3)
    names = [f"class {number}" for number in range(40)]
    split = splits.choose_split(labels, label_fraction=1.0, validation_share=0.2, seed=0, class_names=names)
    first = names[min(set(range(40)) - set(labels[split.validation].tolist()))]
    line = splits.not_validated(split, labels, names)
    assert line.startswith(f"16 of 40 classes without a validation image, so accuracy says nothing of {first!r}, ")
    assert "and 11 more; label more images" in line
    assert not splits.not_validated(choose(label_fraction=1.0, validation_share=0.2), LABELS, CLASSES)


def test_classes_that_a_list_leaves_out_are_told():
    split = splits.listed_split(
        LABELS, labeled=np.flatnonzero(LABELS == 1), validation_share=0.0, seed=0, class_names=CLASSES
    )
    line = splits.not_labeled(split, LABELS, CLASSES)
    assert line.startswith(
        "the list of labeled images names none of 2 of 3 classes, which cannot be learned: 'ant', 'cat'"
    )
    assert not splits.not_labeled(choose(labels_per_class=1), LABELS, CLASSES)


def test_seeds_differ_and_repeat():
    first, again, other = (choose(labels_per_class=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.labeled, again.labeled)
    assert set(first.labeled) != set(other.labeled)


def test_fewer_labels_are_part_of_more_and_validation_does_not_move_them():
    few, more = choose(labels_per_class=1), choose(labels_per_class=4, validation_share=0.3)
    assert set(few.labeled) < set(more.labeled)


def test_validation_images_do_not_depend_on_the_number_of_labels():
    few, more = (choose(labels_per_class=count, validation_share=0.3) for count in (1, 4))
    np.testing.assert_array_equal(few.validation, more.validation)


def test_classes_draw_apart():
    labels = np.repeat(np.arange(3), 50)  # the same pattern in every class would be the same positions within it
    within = choose(labels, labels_per_class=10).labeled.reshape(3, 10) % 50
    assert len({tuple(row) for row in within}) == 3


def test_a_class_does_not_depend_on_the_others():
    alone = np.where(LABELS == 1, 1, -1)
    both = choose(labels_per_class=4).labeled
    np.testing.assert_array_equal(choose(alone, label_fraction=0.2).labeled, both[LABELS[both] == 1])


def test_too_many_labels_name_the_class_and_its_size():
    with pytest.raises(splits.SplitError, match=r"labels_per_class is 15, but class 'ant' has 10 images"):
        choose(labels_per_class=15)
    with pytest.raises(splits.SplitError, match=r"'ant' has 10 .*2 of them kept back.*at most 8"):
        choose(labels_per_class=9, validation_share=0.2)


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.0), (3, 0.5)])
def test_exactly_one_rule_must_be_given(count, fraction):
    with pytest.raises(splits.SplitError, match="exactly one"):
        choose(labels_per_class=count, label_fraction=fraction)


def test_what_earlier_weights_saw_with_a_label_is_never_for_validation():
    """However the draw falls: otherwise they would be graded on what they know."""
    before = choose(labels_per_class=4, validation_share=0.2, seed=1)
    for seed in range(20):
        split = choose(label_fraction=1.0, validation_share=0.2, seed=seed, seen=before.labeled)
        assert not set(split.validation) & set(before.labeled)
        assert len(split.validation) == len(choose(label_fraction=1.0, validation_share=0.2, seed=seed).validation)
        assert set(before.labeled) <= set(split.labeled)
    chance = [set(choose(label_fraction=1.0, validation_share=0.2, seed=s).validation) for s in range(20)]
    assert any(drawn & set(before.labeled) for drawn in chance)


def test_where_all_was_seen_nothing_is_left_for_validation():
    known = np.flatnonzero(LABELS >= 0)
    split = choose(label_fraction=1.0, validation_share=0.2, seen=known)
    assert len(split.validation) == 0
    np.testing.assert_array_equal(split.labeled, known)


def test_without_validation_images_labels_are_drawn_as_if_nothing_had_been_seen():
    seen = choose(labels_per_class=4, seed=1).labeled
    np.testing.assert_array_equal(choose(labels_per_class=2, seen=seen).labeled, choose(labels_per_class=2).labeled)


def test_a_list_leaves_what_was_seen_out_of_validation_too():
    seen = choose(labels_per_class=6, seed=1).labeled
    split = splits.listed_split(
        LABELS, labeled=choose(labels_per_class=1).labeled, validation_share=0.3, seed=0, class_names=CLASSES, seen=seen
    )
    assert len(split.validation)
    assert not set(split.validation) & set(seen)


def test_hash_tells_roles_and_listings_apart():
    split = choose(labels_per_class=4, validation_share=0.1)
    swapped = dataclasses.replace(split, labeled=split.validation, validation=split.labeled)
    hashes = {splits.split_hash(split, "a"), splits.split_hash(split, "b"), splits.split_hash(swapped, "a")}
    assert len(hashes) == 3
    assert splits.split_hash(choose(labels_per_class=4, validation_share=0.1), "a") in hashes
