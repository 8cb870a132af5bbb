"""`semivit eval --images FOLDER`: any folder of labeled photos, with classes that are missing there or not known."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import semivit_jax
from semivit_jax.main import main

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads configs
COUNTS = {"3": 4, "7": 3, "kite": 2}  # of the ten digits two, and a class that no run knows


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise in class folders, of the size of the digits, and one photo without a label."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, count in {**COUNTS, "unlabeled": 1}.items():
        (folder / name).mkdir()
        for number in range(count):
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


def graded(folder, out, *flags):
    assert main(["semivit", "eval", f"--workdir={folder}", f"--out={out}", *flags]) == 0
    return json.loads(out.read_text())


def assert_right(found, folder, photos):
    """As `predict` labels them, one by one."""
    guesses = {name: semivit_jax.load(folder, use="params").predict(sorted((photos / name).iterdir())) for name in "37"}
    right = sum(guess.label == name for name, found in guesses.items() for guess in [t[0] for t in found.top5])
    results = found["results"]["params"]
    assert results["num_images"] == 7
    assert results["acc1"] == pytest.approx(right / 7)
    confusion = np.array(results["confusion"])
    np.testing.assert_array_equal(confusion.sum(axis=1), [0, 0, 0, 4, 0, 0, 0, 3, 0, 0])
    assert results["class_acc"]["5"] is None
    assert (found["dataset"], found["split"]) == (str(photos), "all")


def test_a_run_is_graded_on_all_of_them(finished, photos, tmp_path, capsys):
    assert_right(graded(finished[0], tmp_path / "a.json", f"--images={photos}"), finished[0], photos)
    said = capsys.readouterr().out
    assert "warning: 2 photos of 1 class that the weights do not know left out: 'kite' (2)" in said
    assert "1 photo without a label left out" in said
    assert "8 classes without a photo there: '0', '1'" in said


def test_an_import_needs_no_config_for_it(finished, photos, tmp_path):
    assert main(["semivit", "import", str(finished[0]), "--model=vit_test2", f"--out={tmp_path / 'in'}"]) == 0
    assert_right(graded(tmp_path / "in", tmp_path / "a.json", f"--images={photos}"), tmp_path / "in", photos)


def test_a_list_gives_the_labels(finished, photos, tmp_path):
    """Which may say otherwise than the folders that the photos lie in."""
    rows = ["path,label", "kite/0.png,3", "kite/1.png,7", "unlabeled/0.png,7"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    flags = (f"--images={photos}", f"--labels={tmp_path / 'labels.csv'}")
    found = graded(finished[0], tmp_path / "a.json", *flags)["results"]["params"]
    assert found["num_images"] == 3
    assert np.array(found["confusion"]).sum(axis=1)[[3, 7]].tolist() == [1, 2]


def test_neighbours_are_those_that_the_run_labeled(finished, photos, tmp_path):
    found = graded(finished[0], tmp_path / "a.json", f"--images={photos}", "--protocol=knn")
    assert found["results"]["params"]["num_images"] == 7


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--labels=a.csv"], 2, "--labels needs --images=FOLDER"),
        (
            ["--images=PHOTOS", "--split=train"],
            2,
            "--images names the photos to grade on, all.*leave out --split",
        ),
        (["--images=PHOTOS", "--config=digits"], 2, "leave out --config"),
        (["--images=PHOTOS/kite"], 1, "no photo in .*kite has the label of a class"),
        (["--images=nowhere"], 1, "'nowhere' is not a folder"),
    ],
)
def test_what_cannot_be_graded_is_told_in_a_line(finished, photos, capsys, flags, code, said):
    flags = [flag.replace("PHOTOS", str(photos)) for flag in flags]
    assert main(["semivit", "eval", f"--workdir={finished[0]}", *flags]) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(said, last)
