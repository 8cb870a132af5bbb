"""Lists of labeled images: both conventions round-trip, and a wrong list is refused."""

import csv

import numpy as np
import pytest

from semivit_jax.data import label_lists
from semivit_jax.data.splits import SplitError

NAMES = ["b/2.jpg", "a/1.jpg", "b/1 ü.jpg", "a/10.jpg", "a/9.jpg"]  # not in sorted order


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_round_trip(tmp_path, name):
    label_lists.write(tmp_path / name, np.array([4, 0]), NAMES)
    np.testing.assert_array_equal(label_lists.read(tmp_path / name, NAMES), [0, 4])


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_the_same_bytes_whatever_order_the_files_were_found_in(tmp_path, name):
    label_lists.write(tmp_path / name, np.array([4, 0]), NAMES)
    first = (tmp_path / name).read_bytes()
    shuffled = NAMES[::-1]
    label_lists.write(tmp_path / name, np.array([shuffled.index(NAMES[i]) for i in (0, 4)]), shuffled)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_a_list_for_other_files_is_refused(tmp_path, name):
    label_lists.write(tmp_path / name, np.array([0]), NAMES)
    with pytest.raises(SplitError, match="another set of files"):
        label_lists.read(tmp_path / name, [*NAMES, "c/1.jpg"])


def test_index_counts_in_the_sorted_listing(tmp_path):
    (tmp_path / "published.csv").write_text("Index,Other\n2,x\n0,y\n")
    found = label_lists.read(tmp_path / "published.csv", NAMES)
    assert {NAMES[i] for i in found} == {sorted(NAMES)[2], sorted(NAMES)[0]}
    label_lists.write(tmp_path / "ours.csv", found, NAMES)
    with open(tmp_path / "ours.csv", newline="") as file:
        assert {int(row["Index"]) for row in csv.DictReader(file)} == {0, 2}


def test_names_without_their_folder(tmp_path):
    (tmp_path / "simclr.txt").write_text("10.jpg\n2.jpg\n")
    assert {NAMES[i] for i in label_lists.read(tmp_path / "simclr.txt", NAMES)} == {"a/10.jpg", "b/2.jpg"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("9.jpg\n9.jpg\n", "more than once"),
        ("nowhere.jpg\n", "not in the training set"),
        ("", "lists no image"),
        ("Index\n5\n", "legal are 0 to 4"),
        ("Index\n-1\n", "legal are 0 to 4"),
    ],
)
def test_bad_lists_say_what_is_wrong(tmp_path, content, message):
    (tmp_path / "list").write_text(content)
    with pytest.raises(SplitError, match=message):
        label_lists.read(tmp_path / "list", NAMES)


def test_a_name_in_two_folders_needs_its_folder(tmp_path):
    (tmp_path / "list").write_text("1.jpg\n")
    with pytest.raises(SplitError, match="2 folders"):
        label_lists.read(tmp_path / "list", ["a/1.jpg", "b/1.jpg"])
