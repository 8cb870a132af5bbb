"""What counts as a label: rows of a CSV file, and all that can be wrong with them."""

import logging

import pytest

from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder import open_folder
from tests.own_folder.photos import csv_of, labels_of, put


def test_csv_labels(listed, root, tmp_path):
    put(root / "trip" / "a, b\nc.png")
    path = csv_of(
        tmp_path,
        "dog,./trip/day 1/../day 1/y.png",
        '"dog","trip/a, b\nc.png"',
        f"eel ,{root}/loose.png",
        header="label,path",
    )
    assert labels_of(listed(path)) == {
        "trip/day 1/y.png": "dog",
        "trip/a, b\nc.png": "dog",
        "loose.png": "eel",
    }


def test_csv_mistakes_are_reported_together(listed, root, tmp_path):
    (root / "ant" / "empty.jpg").touch()
    path = csv_of(
        tmp_path,
        "loose.png,dog",
        "loose.png,cat",
        "nowhere.png,dog",
        "../secret.png,dog",
        "/etc/secret.png,dog",
        "ant/0.png,",
        "ant/1.png",
        "ant/2.png,dog,more",
        "ant/empty.jpg,dog",
    )
    with pytest.raises(DatasetError) as caught:
        listed(path)
    message = str(caught.value)
    assert message.startswith("7 problems")
    for part in ("line 3: 'loose.png' is already in line 2", "line 4: there is no image 'nowhere.png'",
                 "line 5: '../secret.png' is outside", "line 6: '/etc/secret.png' is outside",
                 "line 8: it has 1 value and no label, but 2 columns",
                 "line 9: it has 3 values, but 2 columns; a value that holds the delimiter",
                 "line 10: 'ant/empty.jpg' is empty"):  # fmt: skip
        assert part in message


@pytest.mark.parametrize("header", ["path", "path,label,path", "file,class", "", "path|label", "a.png,cat"])
def test_csv_columns(listed, tmp_path, header):
    with pytest.raises(DatasetError, match=r"it must have path,label"):
        listed(csv_of(tmp_path, "loose.png,dog", header=header))


def test_csv_that_cannot_be_read(listed, tmp_path):
    with pytest.raises(DatasetError, match=r"labels .*nowhere.csv' cannot be read: No such file or directory$"):
        listed(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\nloose.png,käfer\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"line 2 holds the byte 0xe4, which is not UTF-8; save it as UTF-8"):
        listed(tmp_path / "latin.csv")
    with pytest.raises(DatasetError, match="has no rows"):
        listed(csv_of(tmp_path))


def test_csv_with_a_byte_order_mark(listed, tmp_path):
    """As Excel writes it."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbfpath,label\r\nloose.png,dog\r\nant/0.png,cat\r\n")
    assert labels_of(listed(path)) == {"loose.png": "dog", "ant/0.png": "cat"}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (['ant/0.png,"ant', "ant/1.png,ant", "ant/2.png,ant"], 3),  # never closed
        (['ant/0.png,"ant', 'ant/1.png,"ant"', "ant/2.png,ant"], 3),  # closed where the next value begins
        (["ant/0.png,ant", '"ant/1.png",ant', 'ant/2.png,"ant" or bee'], 5),
    ],
)
def test_csv_with_a_quote_left_open_names_the_line(listed, tmp_path, rows, line):
    with pytest.raises(DatasetError) as caught:
        listed(csv_of(tmp_path, "nowhere.png,dog", *rows))
    first, second = str(caught.value).splitlines()[1:]
    assert f"labels.csv line {line}: the row that begins here cannot be read" in first
    assert "line 2: there is no image 'nowhere.png'" in second


def test_quotes_within_a_value(listed, root, tmp_path):
    put(root / 'a 3" disk.png')
    path = csv_of(tmp_path, '"a 3"" disk.png",dog', 'a 3" disk.png,dog')
    with pytest.raises(DatasetError, match=r"1 problem .*\n.* line 3: 'a 3\" disk.png' is already in line 2"):
        listed(path)


def test_absolute_paths_by_another_name_of_the_root(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "elsewhere" / "far.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    tops = (root, tmp_path / "link", root / "ant" / "..", tmp_path / "link" / "ant" / "..", root / ".." / root.name)

    def opened(named, *rows):
        path = csv_of(tmp_path, *rows)
        return open_folder(named, labels_csv=path, class_names=None, keep_none=False, cache_dir=tmp_path / "cache")

    for named in tops:
        for written in tops:
            folder = opened(named, f"{written}/loose.png,dog", f"{written}/dog/far.png,cat")
            assert labels_of(folder) == {"loose.png": "dog", "dog/far.png": "cat"}
        with pytest.raises(DatasetError, match=r"^2 problems .*\n.* outside the folder .*\n.* outside the folder"):
            opened(named, f"{tmp_path}/elsewhere/far.png,dog", f"{root}/../elsewhere/far.png,dog")


def test_csv_naming_an_image_by_a_second_way(listed, root, tmp_path):
    (root / "again").symlink_to(root / "ant")
    with pytest.raises(DatasetError, match=r"line 2: 'again' is the same folder as 'ant'; its images are listed there"):
        listed(csv_of(tmp_path, "again/0.png,dog", "ant/1.png,cat"))


def test_a_label_used_once_is_pointed_out(listed, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        listed(csv_of(tmp_path, "ant/0.png,ant", "ant/1.png,ant", "ant/2.png,amt"))
    (told,) = [r.getMessage() for r in caplog.records]
    assert told.startswith("the label 'amt' is used once, so none of it is kept for validation")


def test_evaluation_folders_use_the_training_classes(listed):
    folder = listed(class_names=("zebra", "cat", "bee", "ant"))
    assert labels_of(folder)["cat/0.png"] == "cat"
    with pytest.raises(DatasetError, match="the class 'ant' is not among those of the training images"):
        listed(class_names=("cat", "bee"))
