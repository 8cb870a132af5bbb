"""Any labels CSV and any tree of folders is understood, or refused in lines that say where; no class out of nothing."""

import csv
import io
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semivit_jax.data.sources import folder_labels
from semivit_jax.data.sources.class_names import is_null
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder import open_folder
from semivit_jax.data.sources.folder_walk import OF_PROGRAMS
from tests.own_folder.photos import labels_of

MANY = 10_000
SIGNS = "abAB01 ,;\t\"'\\\n#.-_|ée\u0301日\u200b\xa0"
PNG = b"\x89PNG\r\n\x1a\n"

component = st.text(SIGNS, min_size=1, max_size=6).filter(lambda name: name.strip(".") and not name.startswith("."))
names = st.lists(
    st.tuples(st.lists(component, max_size=2), component).map(lambda parts: "/".join([*parts[0], parts[1] + ".png"])),
    min_size=1,
    max_size=6,
    unique=True,
)
label = st.text(SIGNS, max_size=5).filter(lambda text: not text.strip() or not is_null(text.strip()))


@st.composite
def tables(draw):
    """(name -> label, the bytes of a file that says so)."""
    wanted = {name: draw(label) for name in draw(names)}
    columns = draw(st.permutations(["path", "label", *draw(st.lists(st.sampled_from(["author", "x"]), unique=True))]))
    columns = [""] * draw(st.integers(0, 1)) + [str.title(c) if draw(st.booleans()) else c for c in columns]
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=draw(st.sampled_from(",;\t")),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writerow(columns)
    for number, (name, of_it) in enumerate(wanted.items()):
        cells = {"": str(number), "path": name, "label": of_it, "author": draw(st.text(SIGNS, max_size=3)), "x": ""}
        writer.writerow([cells[column.lower()] for column in columns])
        if draw(st.booleans()):
            writer.writerow([""] * len(columns))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return wanted, text.getvalue().encode(encoding)


change = st.tuples(
    st.floats(0, 1), st.integers(0, 4), st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b",", b"\0"])
)


def labels_in(folder, content, listed):
    path = folder / "labels.csv"
    path.write_bytes(content)
    return folder_labels.from_csv(path, root=folder, names=listed, left_out=[])


def said_where(line):
    return "\n" not in line and re.match(
        r"labels\.csv line \d+[: ]|labels\.csv has no rows$|labels\.csv: none of|the labels '", line
    )


def understands_tables(folder, table):
    wanted, content = table
    found = labels_in(folder, content, sorted(wanted))
    assert found.errors == ()
    read = [found.class_names[number] if number >= 0 else "" for number in found.labels]
    assert dict(zip(sorted(wanted), read, strict=True)) == {name: of_it.strip() for name, of_it in wanted.items()}


def survives_damage(folder, table, changes):
    wanted, content = table
    for at, length, instead in changes:
        start = int(at * len(content))
        content = content[:start] + instead + content[start + length :]
    found = labels_in(folder, content, sorted(wanted))
    assert all(map(said_where, found.errors)), found.errors
    written = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")
    for name in found.class_names:
        assert not is_null(name) or found.errors
        assert name.replace('"', "") in written.replace('"', "")


def trees(draw):
    """(path -> content of the file there): images, what is called so, and other files, in folders of any name."""
    folder = st.binary(min_size=1, max_size=5).filter(lambda name: b"/" not in name and b"\0" not in name)
    part = folder | st.sampled_from([b"cat", b"Cat", b"unlabeled", b"@eaDir", b".git", b"nan", b"unlabelled"])
    file = st.tuples(folder, st.sampled_from([b".png", b".JPG", b".txt", b".heic", b""])).map(b"".join)
    path = st.tuples(st.lists(part, max_size=3), file).map(lambda parts: b"/".join([*parts[0], parts[1]]))
    content = st.sampled_from([PNG, b"", b"hello", b"\xff\xd8\xff\xe0"])
    return draw(st.dictionaries(path, content, max_size=8))


trees = st.composite(trees)


def build(root, tree):
    """What of the tree can lie side by side, by name."""
    built = {}
    for path, content in tree.items():
        name = os.fsdecode(path)
        if {".", ".."} & set(name.split("/")):
            continue
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):  # a file stands where a folder should
            continue
        built[name] = content
    return built


def understands_trees(folder, tree):
    root = folder / "photos"
    root.mkdir()
    try:
        built = build(root, tree)
        wanted = {
            name: name.split("/")[0] if name.count("/") == 1 and not name.startswith("unlabeled/") else ""
            for name, content in built.items()
            if content in (PNG, b"\xff\xd8\xff\xe0") and name.lower().endswith((".png", ".jpg", ".heic"))
            and not any(p.startswith(".") or p.lower() in OF_PROGRAMS for p in name.split("/")[:-1])
            and not name.split("/")[-1].startswith(".")
        }  # fmt: skip
        for _ in range(2):  # listed, then kept
            try:
                found = open_folder(
                    root, labels_csv=None, class_names=None, keep_none=False, cache_dir=folder / "cache"
                )
            except DatasetError as error:
                lines = str(error).splitlines()
                assert lines[0].startswith("no images in ") == (not wanted)
                assert not wanted or all("has no image" in line for line in lines[1:])
                continue
            assert sorted(found.listing.names) == sorted(wanted)
            assert labels_of(found) == {name: of_it for name, of_it in wanted.items() if of_it}
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


# Name -> what must hold, of what, and how often the default tests try it.
PROPERTIES = {
    "tables": (understands_tables, (tables(),), 30),
    "damaged tables": (survives_damage, (tables(), st.lists(change, min_size=1, max_size=4)), 30),
    "trees": (understands_trees, (trees(),), 15),
}


def check(folder, name, examples, *, derandomize):
    holds, drawn, _ = PROPERTIES[name]

    @settings(deadline=None, max_examples=examples, database=None, derandomize=derandomize)
    @given(st.tuples(*drawn))
    def each(values):
        holds(folder, *values)

    each()


@pytest.mark.parametrize("name", PROPERTIES)
def test_understood_or_refused(folder, name):
    check(folder, name, PROPERTIES[name][2], derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_understood_or_refused_often(folder, name):
    check(folder, name, MANY, derandomize=False)
