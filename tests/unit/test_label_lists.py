"""Lists of labeled images: both conventions round-trip, and a wrong list is refused."""

import csv
import unicodedata

import numpy as np
import pytest

from semivit_jax.data import label_lists
from semivit_jax.data.sources.listing import Listing, NameTable, with_made_up_names
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


def test_a_name_is_found_whatever_its_composition(tmp_path):
    (tmp_path / "list.txt").write_text(f"{unicodedata.normalize('NFD', NAMES[2])}\na/9.jpg\n", encoding="utf-8")
    np.testing.assert_array_equal(label_lists.read(tmp_path / "list.txt", NAMES), [2, 4])


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
        ("Index\n-1\n", "line 2: Index is '-1'; legal are 0 to 4"),
        ("Index\n0\n²\n", "line 3: Index is '²'; legal are 0 to 4"),
        ("Index\n" + "9" * 5000, "line 2: Index is '9+'; legal are 0 to 4"),
        ("Name,Index\nx,0\n\ny\n", "line 4: the row ends before its Index"),
        ('Index,Name\n0,x\n1,"y\n2,z\n3,z\n', "the row after line 2 cannot be read"),
        ("9.jpg\n# no comment\n", "1 entry not in the training set, '# no comment' first"),
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


# Each is legal on Linux, in names of files and of folders.
ODD = [
    "#5 hash/1.jpg",
    "# listing/1.jpg",
    "six/#6.jpg",
    "quote\"/'.jpg",
    "a, b/c d.jpg",
    "Index/x.jpg",
    "ü/\udcff.jpg",
    "\ufeff.jpg",
]


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_odd_names_round_trip(tmp_path, name):
    for chosen in ([0], [1], [2, 7], range(len(ODD))):
        label_lists.write(tmp_path / name, np.array(chosen), ODD)
        np.testing.assert_array_equal(label_lists.read(tmp_path / name, ODD), chosen)


def test_a_comment_in_the_first_line_of_somebody_else(tmp_path):
    for first, found in (("# mine", []), ("#5 hash/1.jpg", [0]), ("#6.jpg", [2])):
        (tmp_path / "list").write_text(f"{first}\na, b/c d.jpg\n")
        np.testing.assert_array_equal(label_lists.read(tmp_path / "list", ODD), [*found, 4])


@pytest.mark.parametrize("content", ["Index,Name\r\n0,x\r\n", "# mine\r\n1.jpg\r\n", "1.jpg\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_list(tmp_path, content):
    """As Excel and Notepad write it."""
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert [NAMES[i] for i in label_lists.read(tmp_path / "list", NAMES)] == ["a/1.jpg"]


def test_a_line_break_in_a_name(tmp_path):
    names = ["a/1\n2.jpg", "a/3\r4.jpg", "a/5.jpg"]
    label_lists.write(tmp_path / "list.csv", np.array([0, 2]), names)
    np.testing.assert_array_equal(label_lists.read(tmp_path / "list.csv", names), [0, 2])
    for out, position in (("new.txt", 0), ("new.txt", 1), ("new.csv", 1)):
        with pytest.raises(SplitError, match="has a line break, which cannot be written; rename it") as told:
            label_lists.write(tmp_path / out, np.array([position, 2]), names)
        assert repr(names[position]) in str(told.value)
        assert not (tmp_path / out).exists()


NUMBERS = [f"train/{number}" for number in range(4)]


def numbered(labels, classes=("a", "b")):
    """Names of a data set that has none."""
    return with_made_up_names(Listing(NUMBERS, np.array(labels, np.int32), classes)).names


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_numbered_images_of_another_data_set_are_refused(tmp_path, name):
    label_lists.write(tmp_path / name, np.array([3, 0]), numbered([0, 0, 1, 1]))
    np.testing.assert_array_equal(label_lists.read(tmp_path / name, numbered([0, 0, 1, 1])), [0, 3])
    for other in (numbered([0, 1, 1, 0]), numbered([0, 0, 1, 1], ("a", "c"))):
        with pytest.raises(SplitError, match="another set of files"):
            label_lists.read(tmp_path / name, other)


def test_lists_of_before_are_accepted_where_names_are_names(tmp_path):
    """The hash has stayed that of the names there; that of numbers told nothing."""
    label_lists.write(tmp_path / "list", np.array([0]), NAMES)
    assert (tmp_path / "list").read_text().startswith("# listing 8d4b5e8e5b98daae\n")
    label_lists.write(tmp_path / "numbers", np.array([0]), NUMBERS)
    with pytest.raises(SplitError, match=r"hash of names that are mere numbers.* Draw it again"):
        label_lists.read(tmp_path / "numbers", numbered([0, 0, 1, 1]))
    label_lists.write(tmp_path / "packed", np.array([0]), NameTable.pack(NAMES))
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "list").read_bytes()
