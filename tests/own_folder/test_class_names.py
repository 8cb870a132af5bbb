"""Names of classes that their writer hardly meant are told together, before training."""

import logging
import unicodedata

import pytest

from semivit_jax.data.sources.class_names import is_null, remarks, twin_of
from semivit_jax.data.sources.errors import DatasetError
from tests.own_folder.photos import csv_of, labels_of, put

COMPOSED, APART = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (COMPOSED, APART, "the composition of accents"),
        ("Cat", "cat", "upper and lower case"),
        ("STRASSE", "straße", "upper and lower case"),
        ("tabby cat", "tabby  cat", "spaces"),
        ("cat", "cat ", "spaces"),
        ("tabby cat", "tabby\xa0cat", "spaces"),
        ("cat", "c\u200bat", "signs that cannot be seen"),
        ("cat", "cat\x07", "signs that cannot be seen"),
        ("cat", "\uff43at", "signs that look the same"),
        ("cat", "\u0441at", "letters of another alphabet"),
        ("tabby cat", "tabby_cat", "hyphens, underscores and spaces"),
        ("cote", "côte", "accents"),
        ("1", "1.0", "the writing of a number"),
        ("7", "07", "the writing of a number"),
        ("Tabby_Cat", "tabby cat", "upper and lower case and hyphens, underscores and spaces"),
    ],
)
def test_twins_are_named_with_what_they_differ_in(first, second, what):
    line, *_ = remarks({first: 20, "dog": 5, second: 3}, by_folder=False)
    assert line.startswith(f"2 classes differ in {what} alone: {first!a} (20 images), {second!a} (3 images); ")
    assert twin_of(second, ["dog", first]) == f"differs from {first!a} in {what} alone"


@pytest.mark.parametrize("names", [("cat", "cats"), ("a", "b"), ("1", "10"), ("2021", "2022"), ("-", "_"), ("é", "e2")])
def test_other_names_are_no_twins(names):
    assert not [line for line in remarks(dict.fromkeys(names, 5), by_folder=True) if "differ" in line]


@pytest.mark.parametrize("label", ["NaN", "nan", "#N/A", "N/A", "NULL", "null", "<NA>", "\u200b", "\x07"])
def test_no_class_is_made_of_what_programs_write_for_nothing(listed, tmp_path, label):
    rows = [f"ant/{number}.png,{label if number else 'dog'}" for number in range(3)]
    with pytest.raises(DatasetError) as caught:
        listed(csv_of(tmp_path, *rows, "bee/0.png,cat"))
    _, line = str(caught.value).splitlines()
    assert line.startswith(
        f"labels.csv line 3: the label {label!r} is what programs write for no value, and 1 further row"
    )
    assert "leave the label empty where there is none, or give the class another name" in line


def test_labels_that_are_none_by_their_sound_are_none():
    assert not [label for label in ("nancy", "null island", "Nanking", "n", "0", "-", "?") if is_null(label)]


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "un-labeled", "unsorted", "Unknown", "None", "no label"])
def test_folders_meant_for_images_without_a_label_are_told(listed, root, name, caplog):
    for number in range(3):
        put(root / name / f"{number}.png", number)
    with caplog.at_level(logging.WARNING):
        assert labels_of(listed())[f"{name}/0.png"] == name
    told = [r.getMessage() for r in caplog.records if "what has no class" in r.getMessage()]
    assert told == [
        f"1 class has a name for what has no class: {name!r} (3 images); if these images are without a label, rename "
        "the folder to 'unlabeled'"
    ]


def test_what_is_doubtful_is_told_together(listed, root, caplog):
    for name in ("Ant", "nan", "bell\x07"):
        put(root / name / "0.png")
    with caplog.at_level(logging.WARNING):
        listed()
    told = [r.getMessage() for r in caplog.records][-4:]
    assert [line.partition(":")[0] for line in told] == [
        "2 classes differ in upper and lower case alone",
        "1 class has a name for what has no class",
        "1 class name holds signs that cannot be printed, 'bell\\x07'; they are shown with escapes",
        "3 labels are used once, so none of them is kept for validation",
    ]


def test_a_twin_of_a_training_class_is_told_apart(listed, root):
    put(root / APART / "0.png")
    with pytest.raises(
        DatasetError, match=r"is not among .*; it differs from 'Caf\\xe9' in the composition of accents"
    ):
        listed(class_names=("ant", "bee", COMPOSED, "cat"))


@pytest.mark.parametrize(("on_disk", "written"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_a_path_is_found_whatever_its_composition(listed, root, tmp_path, on_disk, written):
    put(root / on_disk / f"{on_disk}.png")
    found = labels_of(listed(csv_of(tmp_path, f"{written}/{written}.png,dog", "ant/0.png,cat")))
    assert found == {f"{on_disk}/{on_disk}.png": "dog", "ant/0.png": "cat"}


def test_two_files_that_differ_in_composition_keep_their_own_labels(listed, root, tmp_path):
    for name in (COMPOSED, APART):
        put(root / f"{name}.png")
    found = labels_of(listed(csv_of(tmp_path, f"{COMPOSED}.png,dog", f"{APART}.png,cat")))
    assert found == {f"{COMPOSED}.png": "dog", f"{APART}.png": "cat"}
