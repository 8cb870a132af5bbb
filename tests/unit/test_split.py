"""`semivit split`: a balanced subset, the same everywhere; what it reports, and what it refuses."""

import csv
import io
import os
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from semivit_jax import console, main
from semivit_jax.cli import split as split_report
from semivit_jax.data import label_lists, splits
from semivit_jax.data.dataset import open_task
from semivit_jax.data.splits import SplitError
from tests.configs import small_config

SIZES = {"cat": 12, "dog": 8, "owl": 20}


def png(number):
    """A picture of its own for every number."""
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    """train/ with 12 cats, 8 dogs and 20 owls, test/ with two of each."""
    chosen = [(f"train/{name}", i) for name, size in SIZES.items() for i in range(size)]
    chosen += [(f"test/{name}", i) for name in SIZES for i in range(2)]
    for number, (folder, i) in enumerate(chosen):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f"{i}.png").write_bytes(png(number))
    return tmp_path


def split(photos, out, *, seed=0, duplicates=True, **data):
    values = {"dataset": "own_folder", "root": str(photos), "train_split": "train", "eval_split": "test"} | data
    config = small_config(seed=seed, **{f"data.{key}": value for key, value in values.items()})
    split_report.draw(config, photos / out, compare=duplicates)


def names(photos):
    return sorted(path.relative_to(photos / "train").as_posix() for path in (photos / "train").rglob("*.png"))


def listed(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def classes(lines):
    return Counter(line.partition("/")[0] for line in lines)


def test_balanced_by_count(photos):
    split(photos, "list.txt", labels_per_class=3)
    assert classes(listed(photos / "list.txt")) == dict.fromkeys(SIZES, 3)


def test_balanced_by_fraction(photos):
    split(photos, "list.txt", labels_per_class=0, label_fraction=0.25)
    assert classes(listed(photos / "list.txt")) == {"cat": 3, "dog": 2, "owl": 5}


def test_one_seed_one_list(photos):
    for out, seed in (("a.txt", 0), ("b.txt", 0), ("c.txt", 1)):
        split(photos, out, seed=seed, labels_per_class=3)
    assert (photos / "a.txt").read_bytes() == (photos / "b.txt").read_bytes()
    assert listed(photos / "a.txt") != listed(photos / "c.txt")


def test_index_is_the_position_in_the_sorted_listing(photos):
    split(photos, "list.csv", labels_per_class=2)
    with open(photos / "list.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(names(photos)[int(row["Index"])] == row["Name"] for row in rows)


@pytest.mark.parametrize(("first", "second"), [("list.csv", "list.txt"), ("list.txt", "list.csv")])
def test_a_list_of_one_kind_is_written_as_the_other(photos, first, second):
    split(photos, first, labels_per_class=2)
    split(photos, second, labels_per_class=0, label_list=str(photos / first))
    found = [label_lists.read(photos / out, names(photos)) for out in (first, second)]
    np.testing.assert_array_equal(found[0], found[1])


def test_a_list_of_other_files_is_refused(photos):
    split(photos, "list.txt", labels_per_class=2)
    (photos / "train" / "cat" / "new.png").write_bytes(png(99))
    with pytest.raises(SplitError, match="another set of files"):
        split(photos, "again.txt", labels_per_class=0, label_list=str(photos / "list.txt"))
    assert not (photos / "again.txt").exists()


def test_too_many_labels_name_the_class(photos):
    with pytest.raises(SplitError, match="'dog' has 8 images"):
        split(photos, "list.txt", labels_per_class=9)


def test_an_existing_list_is_kept(photos):
    (photos / "list.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        split(photos, "list.txt", labels_per_class=2)
    assert (photos / "list.txt").read_text() == "mine"


@pytest.fixture
def told(monkeypatch):
    """What is printed, as lines of words."""
    printed = io.StringIO()
    monkeypatch.setattr(console.console, "_file", printed)  # `file` would be restored to this test's stdout
    return lambda: [line.replace("│", " ").split() for line in printed.getvalue().splitlines()]


def test_images_per_class_are_reported(photos, told):
    split(photos, "list.txt", labels_per_class=2, eval_split="", validation_share=0.25)
    # Labeled, other known ones, and a quarter for validation.
    assert {tuple(words) for words in told()} >= {
        ("cat", "2", "7", "3"),
        ("dog", "2", "4", "2"),
        ("owl", "2", "13", "5"),
    }


def test_class_names_are_no_markup(photos, told):
    (photos / "train" / "cat").rename(photos / "train" / "[red]cat")
    (photos / "test" / "cat").rename(photos / "test" / "[red]cat")
    split(photos, "list.txt", labels_per_class=2, duplicates=False)
    assert ["[red]cat", "2", "10", "0"] in told()


def test_reading_for_duplicates_leaves_no_empty_lines_in_a_file(photos, told):
    split(photos, "list.txt", labels_per_class=2)
    assert [] not in told()


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_a_list_gives_its_own_split_again(photos, name):
    """Validation images of the same seed, too: what `semivit split` wrote, `semivit train` can use."""
    data = {"eval_split": "", "validation_share": 0.25}
    split(photos, name, labels_per_class=3, duplicates=False, **data)
    base = {"dataset": "own_folder", "root": str(photos), "train_split": "train", **data, "labels_per_class": 0}
    drawn, again = (
        open_task(
            small_config(**{f"data.{key}": value for key, value in (base | how).items()}),
            workdir=None,
            label_free=("mae",),
        )
        for how in ({"labels_per_class": 3}, {"label_list": str(photos / name)})
    )
    assert len(again.split.validation) == 10
    assert again.split_hash == drawn.split_hash


def duplicates(told):
    return [" ".join(words) for words in told() if words[:2] == ["same", "content:"]]


def copy(photos, source, *targets):
    for target in targets:
        (photos / target).write_bytes((photos / source).read_bytes())


def test_content_in_two_roles_is_reported(photos, told):
    copy(photos, "test/owl/0.png", "train/owl/copy.png")
    split(photos, "list.txt", labels_per_class=0, label_fraction=1.0)
    assert duplicates(told) == ["same content: 'owl/copy.png' (labeled), 'owl/0.png' (evaluation)"]


def test_validation_images_are_compared_beside_evaluation_images(photos, told, monkeypatch):
    """A validation share, of a data set that keeps one back, does not hide that a labeled image is evaluated."""
    monkeypatch.setattr(splits, "validation_share", lambda data: data.validation_share)
    copy(photos, "test/owl/0.png", "train/owl/copy.png")
    split(photos, "list.txt", labels_per_class=0, label_fraction=1.0, validation_share=0.1)
    (line,) = duplicates(told)
    assert "'owl/0.png' (evaluation)" in line


def test_content_in_each_pair_of_roles_is_reported(photos, told):
    """Of one training folder: every image twice, so that draws put copies into all pairs of roles."""
    for name in names(photos):
        copy(photos, f"train/{name}", f"train/{name.removesuffix('.png')}_copy.png")
    data = {"labels_per_class": 6, "eval_split": "", "validation_share": 0.25}
    split(photos, "list.txt", **data)
    base = {"dataset": "own_folder", "root": str(photos), "train_split": "train"}
    task = open_task(
        small_config(**{f"data.{key}": value for key, value in (base | data).items()}),
        workdir=None,
        label_free=("mae",),
    )
    role_of = {
        names(photos)[int(i)]: role
        for role in ("labeled", "unlabeled", "validation")
        for i in getattr(task.split, role)
    }
    wanted = set()
    for name in role_of:
        twin = f"{name.removesuffix('.png')}_copy.png"
        if twin in role_of and role_of[name] != role_of[twin]:
            wanted.add(frozenset((f"'{name}' ({role_of[name]})", f"'{twin}' ({role_of[twin]})")))
    lines = {frozenset(line.removeprefix("same content: ").split(", ")) for line in duplicates(told)}
    assert lines == wanted
    pairs = {frozenset(part.partition(" ")[2] for part in line) for line in lines}
    assert pairs == {
        frozenset(("(labeled)", "(unlabeled)")),
        frozenset(("(labeled)", "(validation)")),
        frozenset(("(unlabeled)", "(validation)")),
    }


def test_names_that_cannot_be_printed_as_they_are(photos, monkeypatch):
    monkeypatch.setattr("sys.stdout", out := io.TextIOWrapper(io.BytesIO(), "utf-8"))  # strict, as a terminal is
    odd = os.fsdecode(b"n\xf8t utf-8")
    for folder in ("train", "test"):
        (photos / folder / "cat").rename(photos / folder / odd)
    for source, target in ((f"train/{odd}/0.png", f"test/{odd}/0.png"), ("train/owl/0.png", "test/owl/a\nb.png")):
        copy(photos, source, target)
    split(photos, "list.csv", labels_per_class=8)
    out.seek(0)
    lines = out.read().splitlines()
    found = sorted(re.sub("unlabeled|labeled", "train", line) for line in lines if line.startswith("same content"))
    assert found == [
        r"same content: 'n\udcf8t utf-8/0.png' (train), 'n\udcf8t utf-8/0.png' (evaluation)",
        r"same content: 'owl/0.png' (train), 'owl/a\nb.png' (evaluation)",
    ]
    assert any("'n\\udcf8t utf-8'" in line for line in lines if "│" in line)


def test_a_file_that_vanishes_while_duplicates_are_looked_for(photos, told, monkeypatch):
    def vanish(line):
        if "duplicates" in line:
            (photos / "train" / "owl" / "0.png").unlink()
        say(line)

    say = console.say
    monkeypatch.setattr(console, "say", vanish)
    copy(photos, "test/owl/1.png", "train/owl/copy.png")
    split(photos, "list.txt", labels_per_class=0, label_fraction=1.0)
    assert duplicates(told) == ["same content: 'owl/copy.png' (labeled), 'owl/1.png' (evaluation)"]
    lines = [" ".join(words) for words in told()]
    assert "1 image could not be read and compared, 'owl/0.png' (No such file or directory) first" in lines
    assert len(listed(photos / "list.txt")) == 41


def test_validation_images_are_no_duplicates_of_themselves(photos, told):
    split(photos, "list.txt", labels_per_class=2, eval_split="", validation_share=0.25)
    assert duplicates(told) == []
    assert ["no", "image", "stands", "in", "two"] in [words[:5] for words in told()]


def test_copies_within_one_role_are_none(photos, told):
    copy(photos, "train/owl/0.png", "train/owl/copy.png")
    split(photos, "list.txt", labels_per_class=0, label_fraction=1.0)
    assert duplicates(told) == []


def test_duplicates_can_be_left_out(photos, told):
    split(photos, "list.txt", labels_per_class=2, duplicates=False)
    assert not [words for words in told() if "duplicates" in words]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections on Python 3.11
@pytest.mark.parametrize(
    ("flag", "code", "reads"), [("", 0, True), ("yes", 0, True), ("no", 0, False), ("1", 2, False)]
)
def test_the_command(photos, told, monkeypatch, flag, code, reads):
    command = ["semivit", "split", "--config=cifar10", f"--out={photos / 'list.txt'}", f"--config.data.root={photos}"]
    command += ["--config.data.dataset=own_folder", *([f"--duplicates={flag}"] if flag else [])]
    monkeypatch.setattr("sys.argv", command)  # ml_collections looks there for overrides
    assert main.main(command) == code
    assert (photos / "list.txt").exists() == (code == 0)
    assert reads == any("duplicates" in words for words in told())
