"""Choosing images to label: what holds for every method, and that choosing beats drawing."""

import csv
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from semivit_jax import files
from semivit_jax.inference import embedding, selecting
from semivit_jax.main import main

FEATURES, CLASSES = (array[::3] for array in load_digits(return_X_y=True))
FEATURES = FEATURES.astype(np.float32)
NAMES = [f"{'even' if label % 2 == 0 else 'odd'}/{place}.png" for place, label in enumerate(CLASSES)]
NONE = np.full(len(FEATURES), -1, np.int32)
LABELED = NONE.copy()
LABELED[:3] = CLASSES[:3]
METHODS = list(selecting.METHODS)


def chosen(method, labels=LABELED, *, features=FEATURES, names=NAMES, count=7, folders="", alike=0.999, seed=0):
    return selecting.select(
        method, features, labels, names, count=count, folders=folders, alike=alike, seed=seed
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_chooses_as_many_images_without_a_label(method):
    places, told = chosen(method)
    assert len(set(places.tolist())) == len(places) == 7
    assert not set(places.tolist()) & {0, 1, 2}
    assert not told
    assert chosen(method)[0].tolist() == places.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_nearly_the_same_images_are_chosen_once(method):
    """Every image is there three times, and so are those with a label."""
    generator = np.random.default_rng(0)
    features = np.repeat(FEATURES[:20], 3, axis=0) + generator.normal(0, 1e-3, (60, 64)).astype(np.float32)
    labels = np.full(60, -1, np.int32)
    labels[[0, 3, 4]] = [0, 1, 1]
    places, told = chosen(method, labels, features=features, names=NAMES[:60], count=30)
    assert sorted(place // 3 for place in places.tolist()) == list(range(2, 20))
    assert told == ["18 images of 30: the others are nearly the same as these"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("folders", "shares"), [("even", (4, 4)), ("size", (5, 3))])
def test_folders_give_their_shares(method, folders, shares):
    keep = np.concatenate([np.arange(3), [p for p in range(3, 599) if CLASSES[p] % 2 == 0 or p % 5 < 3]])
    names = [NAMES[place] for place in keep]
    labels = LABELED[keep].copy()
    places, _ = chosen(method, labels, features=FEATURES[keep], names=names, count=8, folders=folders)
    found = [names[place].partition("/")[0] for place in places.tolist()]
    assert (found.count("even"), found.count("odd")) == shares


@pytest.mark.parametrize("method", ["typiclust", "maxherding", "kmeans"])
def test_choosing_beats_drawing(method):
    """Accuracy of a linear probe with 40 labels, on all digits; drawn at random it is 79 % on average of five."""

    def accuracy(places):
        probe = LogisticRegression(C=100, max_iter=3000).fit(unit[places], CLASSES[places])
        return probe.score(unit, CLASSES)

    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    drawn = np.mean([accuracy(chosen("random", NONE, count=40, seed=seed)[0]) for seed in range(5)])
    assert accuracy(chosen(method, NONE, count=40)[0]) > drawn + 0.04


@pytest.mark.parametrize("method", ["typiclust", "maxherding", "kmeans", "coreset"])
def test_what_has_a_label_is_covered(method):
    """Of two groups far apart, the one with a label is left alone."""
    generator = np.random.default_rng(0)
    centres = np.eye(64, dtype=np.float32)[:2]
    features = centres[np.arange(60) % 2] + generator.normal(0, 0.02, (60, 64)).astype(np.float32)
    labels = np.full(60, -1, np.int32)
    labels[0] = 0
    places, _ = chosen(method, labels, features=features, names=NAMES[:60], count=1, alike=2.0)
    assert places[0] % 2 == 1


def test_many_images_are_thinned_out_first(monkeypatch):
    monkeypatch.setattr(selecting, "MOST", 100)
    places, told = chosen("typiclust")
    assert len(places) == 7
    assert told == ["596 images are many to compare each with each: 100 drawn at random take part"]


def test_many_labels_are_thinned_out_too_but_for_what_is_nearly_the_same(monkeypatch):
    seen = []

    def method(features, labels, count, seed):
        seen.append(int((~np.isnan(labels)).sum()))
        return selecting.random(features, labels, count, seed)

    monkeypatch.setattr(selecting, "MOST", 100)
    monkeypatch.setitem(selecting.METHODS, "random", method)
    features = np.concatenate([FEATURES, FEATURES[:300] * 2])  # the same directions
    labels = np.concatenate([np.full(len(FEATURES), -1), CLASSES[:300]]).astype(np.int32)
    monkeypatch.setattr(selecting, "_COMPARED_AT_ONCE", 7)
    places, told = chosen("random", labels, features=features, names=[f"{n}.png" for n in range(len(features))])
    assert len(places) == 7
    assert (places >= 300).all()
    assert set(seen) == {100}
    assert told[-1] == "300 labels are many: surroundings of 100 drawn at random count as covered"


def test_what_a_folder_cannot_give_the_others_do():
    names = ["few/a.png", "few/b.png", *(f"many/{n}.png" for n in range(40)), *(f"more/{n}.png" for n in range(40))]
    places, told = chosen("random", NONE[:82], features=FEATURES[:82], names=names, count=20, folders="even", alike=2.0)
    found = [names[place].partition("/")[0] for place in places.tolist()]
    assert [found.count(folder) for folder in ("few", "many", "more")] == [2, 9, 9]
    assert not told


def test_fewer_images_than_are_asked_for_are_told():
    places, told = chosen("random", LABELED[:8], features=FEATURES[:8], names=NAMES[:8], alike=2.0)
    assert len(places) == 5
    assert told == ["5 images of 7: no others are without a label"]


def test_features_that_are_no_numbers_are_refused():
    features = FEATURES.copy()
    features[5, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        chosen("random", features=features)


def test_nothing_left_to_choose_says_so():
    with pytest.raises(ValueError, match="every image has a label already"):
        chosen("random", np.zeros(len(FEATURES), np.int32))
    with pytest.raises(ValueError, match="needs labeled images of at least two classes: give --labels"):
        chosen("dropquery", NONE)


@pytest.fixture
def folder(tmp_path):
    embedding.write_npz(tmp_path / "features.npz", NAMES, [FEATURES], width=64, dtype="float32")
    about = {"format": "npz", "file": "features.npz", "images": str(tmp_path / "photos")}
    files.write_json(tmp_path / "embedding.json", about)
    return tmp_path


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def test_the_command_writes_a_table_to_fill_in(folder, capsys):
    (folder / "labels.csv").write_text("path,label\n" + "".join(f"{NAMES[p]},{p % 2}\n" for p in range(3)))
    arguments = [f"--embedding={folder}", "--count=5", f"--out={folder / 'todo.csv'}"]
    assert main(["semivit", "select", *arguments, f"--labels={folder / 'labels.csv'}"]) == 0
    header, *found = rows(folder / "todo.csv")
    assert header == ["path", "label"]
    assert len(found) == 5
    assert {label for _, label in found} == {""}
    assert {path for path, _ in found} <= set(NAMES[3:])
    assert f"wrote {folder / 'todo.csv'}: 5 images of {folder / 'photos'} to label" in capsys.readouterr().out


def test_labels_of_images_without_features_are_told_and_passed_over(folder, capsys):
    """Photos that came after the embedding was made: they are there, and their labels are no mistake."""
    (folder / "photos").mkdir()
    (folder / "photos" / "new.png").write_bytes(b"")
    (folder / "labels.csv").write_text(f"path,label\n{NAMES[0]},0\nnew.png,1\n")
    arguments = [f"--embedding={folder}", "--count=5", "--by=random", f"--labels={folder / 'labels.csv'}"]
    assert main(["semivit", "select", *arguments, f"--out={folder / 'todo.csv'}"]) == 0
    told = capsys.readouterr().out
    assert f"1 image of {folder / 'labels.csv'} without features, 'new.png' first" in told
    assert len(rows(folder / "todo.csv")) == 6


def test_labels_in_the_file_to_write_are_not_lost(folder, capsys):
    out = folder / "todo.csv"
    arguments = ["semivit", "select", f"--embedding={folder}", "--count=2", "--by=random", f"--out={out}"]
    assert main(arguments) == 0
    assert main(arguments) == 0  # without labels it is written anew
    out.write_text(out.read_text().replace(",\n", ",oak\n", 1))
    before = out.read_text()
    assert main(arguments) == 1
    assert "holds labels, which would be lost" in capsys.readouterr().err
    assert out.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--count=0"], 2, "--count is 0; at least 1"),
        (["--count=3", "--alike=0"], 2, "--alike is 0.0; above 0"),
        (["--count=3", "--labels=LABELS"], 1, "there is no image 'cat.jpg'"),
        (["--count=3", "--embedding=nowhere"], 1, "nowhere holds no finished embedding; make one: semivit embed"),
    ],
)
def test_bad_requests_are_refused_in_a_line(folder, capsys, arguments, code, message):
    (folder / "labels.csv").write_text("path,label\ncat.jpg,cat\n")
    arguments = [text.replace("LABELS", str(folder / "labels.csv")) for text in arguments]
    assert main(["semivit", "select", f"--embedding={folder}", f"--out={folder / 'todo.csv'}", *arguments]) == code
    assert message in capsys.readouterr().err
    assert not (folder / "todo.csv").exists()


def test_a_method_whose_package_is_missing_names_the_extra(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml.pool", None)
    arguments = [f"--embedding={folder}", "--count=2", f"--out={folder / 'todo.csv'}"]
    assert main(["semivit", "select", *arguments]) == 1
    assert "needs scikit-activeml: " in capsys.readouterr().err
    assert main(["semivit", "select", *arguments, "--by=random"]) == 0
