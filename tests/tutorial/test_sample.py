"""The sample that the tutorial follows, and its recipe."""

import csv

import numpy as np
import pytest
from PIL import Image

from semivit_jax.recipes.check import check
from tutorial import make, sample, seen, small


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "sample"
    sample.main([str(folder)])
    return folder


def test_every_class_has_labels_and_photos_to_test_on(written):
    with (written / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert all((written / "photos" / row["path"]).exists() for row in rows)
    for name in sample.REGIONS:
        assert [row["label"] for row in rows].count(name) == sample.LABELED
        assert len(list((written / "test" / name).iterdir())) >= 10
    assert len(list((written / "photos").iterdir())) > 3 * len(rows)


def test_no_photo_stands_in_training_and_test(written):
    training = {path.read_bytes() for path in (written / "photos").iterdir()}
    assert not training & {path.read_bytes() for path in (written / "test").rglob("*.jpg")}


def test_it_is_the_same_every_time(written, tmp_path):
    sample.main([str(tmp_path / "again")])
    assert files(tmp_path / "again") == files(written)


def test_photos_of_others_take_their_place(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "classes" / name / f"{number}.jpg")
    sample.main([str(tmp_path / "sample"), f"--photos={tmp_path / 'classes'}"])
    assert sorted(path.name for path in (tmp_path / "sample/test").iterdir()) == ["cat", "dog"]
    assert len(list((tmp_path / "sample/photos").iterdir())) == 40


def test_a_folder_that_holds_something_is_left_alone(written, capsys):
    before = files(written)
    with pytest.raises(SystemExit):
        sample.main([str(written)])
    assert "is not empty" in capsys.readouterr().err
    assert files(written) == before


def test_the_small_recipe_is_one():
    assert check(small.get_config().to_dict()).data.image_size == sample.SIDE


def test_the_surer_photo_weighs_more():
    dark, light = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    mix = seen.mixed(dark, light, (0.9, 0.3))
    assert mix.share == pytest.approx(0.75)
    assert mix.blended == pytest.approx(np.full((8, 8, 3), 64))  # a quarter of 255, rounded
    assert set(np.unique(mix.boxed)) == {0, 255}


def test_three_quarters_of_a_photo_are_hidden():
    hidden = seen.masked(np.zeros((224, 224, 3), np.uint8), 0) == seen.GREY
    assert hidden.mean() == pytest.approx(0.75, abs=0.02)


def test_what_lacks_its_folder_is_skipped_with_a_reason(tmp_path):
    assert make.made("a picture", lambda: pytest.fail("made"), tmp_path / "absent", ()) == (
        f"skipped a picture: there is no {tmp_path / 'absent'}"
    )
