"""Files of labels as spreadsheets, pandas and people write them: understood, or refused with line and column."""

import logging

import pytest

from semivit_jax.data.sources.errors import DatasetError
from tests.own_folder.photos import labels_of

WANTED = {"ant/0.png": "dog", "bee/1.png": "cat"}


@pytest.fixture
def table(listed, tmp_path):
    """Labels of a file with this content."""

    def read(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return labels_of(listed(path))

    return read


PLAIN = "path,label\nant/0.png,dog\nbee/1.png,cat\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("path,label", "Path , LABEL"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace(",", "\t").encode("utf-16"),
        'label,path\n"dog","ant/0.png"\r\ncat,"bee/1.png"\n',
        "\n,,\npath,label,\n\nant/0.png,dog,\n , \nbee/1.png,cat,,,\n,,,,,\n",
        "path,label\nant\\0.png,dog\n.\\bee\\1.png,cat\n",
        "path,label\n ant/0.png , dog \nbee/1.png,cat\n",
    ],
)
def test_what_is_understood(table, content, caplog):
    with caplog.at_level(logging.WARNING):
        assert table(content) == WANTED
    assert all("used once" in r.getMessage() for r in caplog.records if "images lie" not in r.getMessage())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (",path,label\n0,ant/0.png,dog\n1,bee/1.png,cat\n", "passing over the first column, which has no name, as the"),
        ("path,label,author\nant/0.png,dog,me\nbee/1.png,cat\n", "passing over the columns 'author'"),
        ("path;x;label;y\nant/0.png;;dog;\nbee/1.png;1;cat;2\n", "passing over the columns 'x', 'y'"),
        ("path,label\nant/0.png,dog\nant/1.png,\nbee/1.png,cat\nant/2.png, \n",
         "2 rows have an empty label, line 3 first; such images count as unlabeled"),
    ],
)  # fmt: skip
def test_what_is_passed_over_is_told(table, content, told, caplog):
    with caplog.at_level(logging.WARNING):
        assert table(content) == WANTED
    assert told in caplog.text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "labels.csv line 1 has the columns none; it must have path,label"),
        (b"ant/0.png;dog\n", "labels.csv line 1 has the columns 'ant/0.png', 'dog'; it must have"),
        (PLAIN.encode("utf-16-le"), "line 1 holds a zero byte, as UTF-16 without its mark has"),
        (PLAIN.encode("utf-16")[:-1], "it begins as UTF-16 does, but truncated data at byte"),
        (PLAIN.encode("utf-32"), "holds a zero byte"),
        (b"path,label\nant/0.png,dog\n,cat\n", "line 3: the label 'cat' stands beside an empty path"),
        (b"path;label\nant/0.png,dog\n", "line 2: it has 1 value and no label, but 2 columns"),
        (b"label;path\ndog\n", "line 2: it has 1 value and no path, but 2 columns"),
        (b"path,label\na, b.png,dog\n", "line 2: it has 3 values, but 2 columns"),
        (b"path,label\n/ant/\0.png,dog\n", "line 2 holds a zero byte"),
    ],
)
def test_what_is_refused(table, content, told):
    with pytest.raises(DatasetError) as caught:
        table(content)
    head, line = str(caught.value).splitlines()
    assert head.startswith("1 problem with the labels of ")
    assert told in line


def rows(*paths):
    return "path,label\n" + "".join(f"{path},{'dog' if number % 2 else 'cat'}\n" for number, path in enumerate(paths))


MANY = ("ant/0.png", "ant/1.png", "bee/2.png", "cat/1.png")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (lambda path: f"photos/{path}", "'photos/ant/0.png', but 'ant/0.png', and so in 3 further rows; paths"),
        (lambda path: f"/home/me/photos/{path}", "'/home/me/photos/ant/0.png', but 'ant/0.png', and so in 3"),
        (lambda path: f"C:\\photos\\{path}".replace("/", "\\"), r"'C:\\photos\\ant\\0.png', but 'ant/0.png', and so"),
        (lambda path: path.upper(), "'ANT/0.PNG', but 'ant/0.png', and so in 3 further rows; capital and small"),
        (lambda path: path.replace("png", "jpg"), "'ant/0.jpg', but 'ant/0.png', and so in 3 further rows; a path"),
        (lambda path: path[:-4], "'ant/0', but 'ant/0.png', and so in 3 further rows; a path ends as its file does"),
        (lambda path: "x/" + path.replace("png", "JPG"),
         "'x/ant/0.JPG', but 'ant/0.png', and so in 3 further rows; paths are relative to"),
        (lambda path: f"elsewhere/{path[0]}.tga", "none of 4 paths is that of an image, 'elsewhere/a.tga' first"),
    ],
)  # fmt: skip
def test_paths_that_all_miss_have_one_cause(table, written, told):
    with pytest.raises(DatasetError) as caught:
        table(rows(*map(written, MANY)))
    _, line = str(caught.value).splitlines()
    assert told in line


def test_bare_names_are_told_their_folder(table, root):
    with pytest.raises(
        DatasetError, match=r"image 'y.png', but 'trip/day 1/y.png', and so in 1 further row; a path names"
    ):
        table(rows("y.png", "z.png"))


def test_a_name_in_several_folders_is_not_guessed(table):
    with pytest.raises(DatasetError, match=r"line 2: there is no image '1.png' in "):
        table(rows("1.png", "loose.png"))
