"""A folder that changes after a run has begun: what is told, what is graded, and what is never kept back."""

import dataclasses
import json

import numpy as np
import pytest

from semivit_jax.checkpoints import init_from
from semivit_jax.config import to_dict
from semivit_jax.data import record
from semivit_jax.data.changes import Changes, compare
from semivit_jax.data.dataset import changes_since, open_as_begun, open_split, open_task
from semivit_jax.data.seen import Seen
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.listing import Listing
from semivit_jax.data.splits import SplitError
from semivit_jax.files import path, write_json
from tests.own_folder.photos import csv_of, put
from tests.own_folder.test_task import config_for

LABEL_FREE = ("mae",)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


@pytest.fixture
def begun(root, tmp_path):
    """(config, workdir, task) of a run that has begun on the folder."""
    config, workdir = config_for(root), path(tmp_path / "run")
    return config, workdir, open_task(config, workdir=workdir, label_free=LABEL_FREE)


def names(images):
    return set(images.names)


# ---- what has changed


def test_every_kind_of_change_is_told_by_name():
    then = Listing(["a/1", "a/2", "b/3", "b/4", "c/5"], np.array([0, 0, 1, 1, -1], np.int32), ("a", "b"))
    now = Listing(["a/1", "b/2", "b/4", "c/5", "c/6"], np.array([0, 1, 2, 1, -1], np.int32), ("a", "b", "bee"))
    assert compare(then, now) == Changes(
        added=("c/6",),
        removed=("b/3",),
        moved=(("a/2", "b/2"),),
        relabeled=(("b/4", "b", "bee"), ("c/5", "none", "b")),
    )
    assert str(compare(then, now)) == (
        "1 added ('c/6'); 1 removed ('b/3'); 1 moved ('a/2' to 'b/2'); "
        "2 relabeled ('b/4' from 'b' to 'bee', 'c/5' from 'none' to 'b')"
    )


def test_nothing_is_told_where_classes_are_merely_numbered_anew():
    then = Listing(["x"], np.array([0], np.int32), ("bee",))
    assert str(compare(then, Listing(["x"], np.array([1], np.int32), ("ant", "bee")))) == ""


def test_of_many_changes_the_first_are_named():
    then, now = Listing([], np.empty(0, np.int32), ()), Listing(list("edcba"), np.full(5, -1, np.int32), ())
    assert str(compare(then, now)) == "5 added ('a', 'b', 'c', ...)"


def test_a_file_name_that_many_folders_have_is_not_taken_for_a_moved_one():
    then = Listing(["a/0.png", "b/0.png"], np.full(2, -1, np.int32), ())
    now = Listing(["c/0.png"], np.full(1, -1, np.int32), ())
    assert not compare(then, now).moved


# ---- a run that goes on


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: put(root / "ant" / "new.png"), r"1 added \('ant/new.png'\)"),
        (lambda root: (root / "unlabeled" / "x.png").unlink(), r"1 removed \('unlabeled/x.png'\)"),
        (lambda root: (root / "bee" / "0.png").rename(root / "cat" / "was_bee.png"), "1 added .*; 1 removed"),
        (
            lambda root: (root / "loose.png").rename(root / "bee" / "loose.png"),
            "1 moved .'loose.png' to 'bee/loose.png'",
        ),
    ],
    ids=["added", "removed", "relabeled by moving", "moved"],
)
def test_it_is_refused_and_what_has_changed_is_named(begun, root, change, told):
    config, workdir, _ = begun
    change(root)
    with pytest.raises(DatasetError, match=rf"begun with other files, names or labels: training images: {told}"):
        open_task(config, workdir=workdir, label_free=LABEL_FREE)


def test_a_label_that_was_mended_in_the_list_is_named(root, tmp_path):
    """As many images then as now: only the labels differ."""
    rows = [f"ant/{i}.png,ant" for i in range(4)] + [f"bee/{i}.png,bee" for i in range(3)]
    config = config_for(root, labels=str(csv_of(tmp_path, *rows)))
    open_task(config, workdir=path(tmp_path / "run"), label_free=LABEL_FREE)
    csv_of(tmp_path, *rows[:-1], "bee/2.png,ant")
    with pytest.raises(DatasetError, match=r"1 relabeled \('bee/2\.png' from 'bee' to 'ant'\)"):
        open_task(config, workdir=path(tmp_path / "run"), label_free=LABEL_FREE)


def test_it_keeps_the_split_that_it_began_with(begun, root, monkeypatch):
    """Also where a later version draws another one."""
    config, workdir, task = begun
    other = open_task(config_for(root, labels_per_class=1), workdir=None, label_free=LABEL_FREE)
    assert other.split_hash != task.split_hash
    monkeypatch.setattr("semivit_jax.data.splits.choose_split", lambda *_, **__: other.split)
    assert open_task(config, workdir=workdir, label_free=LABEL_FREE).split_hash == task.split_hash


@pytest.mark.parametrize("edit", [lambda text: text.replace("labeled", "validation", 1), lambda text: text + "odd\n"])
def test_a_split_that_was_edited_is_refused(begun, edit):
    config, workdir, _ = begun
    file = workdir / "split.csv"
    file.write_text(edit(file.read_text()))
    with pytest.raises(SplitError, match=r"split\.csv (has been changed since the run began|is damaged)"):
        open_task(config, workdir=workdir, label_free=LABEL_FREE)


def test_names_of_every_kind_are_kept(tmp_path):
    """Comma, line break, and a byte that is not UTF-8."""
    odd = [f"a b,\n\udcff{i}" for i in range(4)]
    now = record.Listings(Listing(odd, np.array([0, 1, 0, 1], np.int32), ("x", "y")), None)
    split = record.splits.split_from_roles(4, labeled=np.array([0, 1]), validation=np.array([3]))
    record.write(path(tmp_path / "run"), now, split, num_eval=1, labeled_before=[odd[2]])
    found = record.read(path(tmp_path / "run"))
    assert found.names("labeled") == odd[:2]
    assert found.names("validation") == [odd[3]]
    assert found.labeled_before() == [odd[2]]
    assert found.changes(now) == ""
    np.testing.assert_array_equal(found.split().unlabeled, [2])


# ---- a run that is graded


def test_grading_takes_the_images_that_the_run_kept_back(begun, root, caplog):
    config, workdir, task = begun
    for number in range(6):
        put(root / "ant" / f"0_{number}.png", number)  # between the others
    put(root / "dog" / "0.png")
    now = open_as_begun(config, workdir=workdir, label_free=LABEL_FREE)
    assert names(now.eval) == names(task.eval)
    assert names(now.train) == names(task.train)
    assert now.class_names == task.class_names
    assert names(open_split(config, now, "labeled")) == names(open_split(config, task, "labeled"))
    assert f"have changed since {workdir} began: training images: 7 added ('ant/0_0.png', " in caplog.text
    assert "ant" not in {name.split("/")[0] for name in now.eval.names} or names(now.eval) & names(task.train)


def test_what_is_gone_is_left_out_and_a_mended_label_is_believed(begun, root):
    config, workdir, task = begun
    first, second = sorted(names(task.eval))
    (root / first).unlink()
    now = open_as_begun(config, workdir=workdir, label_free=LABEL_FREE)
    assert names(now.eval) == {second}
    assert now.class_names[now.eval.labels[0]] == second.split("/")[0]


def test_a_label_that_has_gone_from_the_list_is_still_known(root, tmp_path):
    rows = [f"{name}/{i}.png,{name}" for name, count in (("ant", 4), ("bee", 3)) for i in range(count)]
    config, workdir = config_for(root, labels=str(csv_of(tmp_path, *rows))), path(tmp_path / "run")
    task = open_task(config, workdir=workdir, label_free=LABEL_FREE)
    (kept,) = {name for name in task.eval.names if name.startswith("ant")}
    csv_of(tmp_path, *(row for row in rows if not row.startswith(kept)))
    now = open_as_begun(config, workdir=workdir, label_free=LABEL_FREE)
    assert names(now.eval) == names(task.eval)
    assert now.class_names[now.eval.labels[list(now.eval.names).index(kept)]] == "ant"


def test_a_run_of_an_earlier_version_is_graded_likewise(begun, root):
    """It kept no names but those of labeled and validation images."""
    config, workdir, task = begun
    (workdir / "images.npz").unlink()
    put(root / "ant" / "0_new.png")
    now = open_as_begun(config, workdir=workdir, label_free=LABEL_FREE)
    assert names(now.eval) == names(task.eval)
    assert "13 training images then, 14 now" in changes_since(config, workdir)


# ---- a run that starts from another


def seen_by(begun, *, root="", train_split=""):
    config, _, task = begun
    names = frozenset(open_split(config, task, "labeled").names)
    return Seen("run", "own_folder", root or config.data.root, train_split, names)


def test_a_grown_folder_keeps_nothing_back_that_the_other_run_was_trained_on(begun, root, tmp_path):
    config, _, task = begun
    for name in ("ant", "bee", "cat"):
        for number in range(20):
            put(root / name / f"0_{number}.png", number)
    before = names(open_split(config, task, "labeled"))
    drawn = [open_task(dataclasses.replace(config, seed=s), workdir=None, label_free=LABEL_FREE) for s in range(5)]
    assert any(names(one.eval) & before for one in drawn)  # by chance they would be
    for seed in range(5):
        workdir = path(tmp_path / f"next_{seed}")
        grown = open_task(
            dataclasses.replace(config, seed=seed), workdir=workdir, label_free=LABEL_FREE, seen=seen_by(begun)
        )
        assert len(grown.eval) == len(drawn[seed].eval)
        assert not names(grown.eval) & before
        assert set(json.loads((workdir / "labeled_before.json").read_text())) == before  # for those that follow


def test_photos_are_the_same_files_or_of_the_same_name_and_content(begun, root, tmp_path):
    config, _, task = begun
    seen, train = seen_by(begun), task.train
    above = seen_by(begun, root=str(tmp_path), train_split="photos")  # the same folder by another name
    assert len(seen.positions(train, config.data, "")) == len(above.positions(train, config.data, "")) == 7
    other = dataclasses.replace(config.data, root=str(tmp_path / "copy"))
    root.rename(tmp_path / "copy")
    copy = open_task(config_for(tmp_path / "copy"), workdir=None, label_free=LABEL_FREE).train
    assert len(seen.positions(copy, other, "")) == 7  # moved
    for name in seen.names:
        put(root / name, 200)
    assert len(seen.positions(copy, other, "")) == 0  # other photos that are called alike
    for name in sorted(seen.names)[:3]:
        (root / name).write_bytes((tmp_path / "copy" / name).read_bytes())
    assert len(seen.positions(copy, other, "")) == 3


def test_images_of_a_data_set_are_told_by_name_in_their_split(begun):
    config, _, task = begun
    data = dataclasses.replace(config.data, dataset="digits", train_split="train")
    seen = Seen("run", "digits", "", "train", frozenset(task.train.names[:2]))
    assert seen.positions(task.train, data, "train").tolist() == [0, 1]
    assert not len(seen.positions(task.train, data, "test"))
    assert not len(seen.positions(task.train, dataclasses.replace(data, dataset="cifar10"), "train"))


def test_a_run_remembers_what_the_weights_before_it_knew(begun):
    config, workdir, task = begun
    write_json(workdir / "config.json", to_dict(config))
    write_json(workdir / "labeled_before.json", ["ant/9.png"])
    labeled = names(open_split(config, task, "labeled"))
    assert init_from.seen(workdir, LABEL_FREE).names == labeled | {"ant/9.png"}
    assert init_from.seen(workdir, config.stages).names == {"ant/9.png"}  # its own stages read no label


def test_an_import_of_a_run_remembers_it_too(begun, tmp_path, monkeypatch):
    """Also where it is read from another folder than the run was, whose root is relative."""
    config, workdir, task = begun
    monkeypatch.chdir(tmp_path)
    relative = dataclasses.replace(config, data=dataclasses.replace(config.data, root="photos"))
    write_json(workdir / "config.json", to_dict(relative))
    folder = path(tmp_path / "imported")
    folder.mkdir()
    (folder / "import.json").touch()
    for name, content in init_from.seen_file(workdir, LABEL_FREE).items():
        write_json(folder / name, content)
    monkeypatch.chdir("/")
    found = init_from.seen(folder, LABEL_FREE)
    assert found.names == names(open_split(config, task, "labeled"))
    assert found.root == str(tmp_path / "photos")
    assert len(found.positions(task.train, config.data, "")) == 7
