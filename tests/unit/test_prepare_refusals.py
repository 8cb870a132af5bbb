"""`semivit prepare` says what is wrong with a source, and leaves no dataset behind."""

import pytest

from tests.unit.test_prepare import prepare, tar_of, write_imagenet, write_tree

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def refused(tmp_path, capsys):
    """Prepares `source` in vain and returns the message."""

    def run(source, *more, code=1):
        data_dir = tmp_path / "data"
        data_dir.mkdir(exist_ok=True)
        assert prepare(source, data_dir, *more) == code
        assert not (data_dir / "mine" / "1.0.0").exists()
        return capsys.readouterr().err

    return run


def test_imagenet_must_be_complete(tmp_path, refused):
    write_imagenet(tmp_path)
    assert "tar of train images holds 9 images; ImageNet has 1,281,167" in refused(tmp_path)


def test_both_tars_are_needed(tmp_path, refused):
    write_imagenet(tmp_path)
    (tmp_path / VALIDATION).unlink()
    assert f"{VALIDATION} is not in" in refused(tmp_path, "--allow_partial")


@pytest.mark.parametrize("name", [TRAIN, VALIDATION])
def test_a_truncated_tar(tmp_path, refused, name):
    write_imagenet(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: content.rindex(b"JFIF") + 100])  # inside the last image
    assert "is damaged or not a tar" in refused(tmp_path, "--allow_partial")


@pytest.mark.parametrize("name", [TRAIN, VALIDATION])
def test_a_tar_of_something_else(tmp_path, refused, name):
    write_imagenet(tmp_path)
    (tmp_path / name).write_bytes(tar_of({"cat.jpg": b"x"}))
    assert "holds 'cat.jpg'" in refused(tmp_path, "--allow_partial")


def test_no_tar_at_all(tmp_path, refused):
    write_imagenet(tmp_path)
    (tmp_path / TRAIN).write_bytes(b"<html>log in first</html>" * 100)
    assert "is damaged or not a tar" in refused(tmp_path, "--allow_partial")


def test_an_image_twice_in_a_tar(tmp_path, refused):
    write_imagenet(tmp_path)
    inner = tar_of({"n01440764_1.JPEG": b"x"})
    (tmp_path / TRAIN).write_bytes(tar_of({"n01440764.tar": inner, "n01443537.tar": inner}))
    assert "'n01440764_1.JPEG' first" in refused(tmp_path, "--allow_partial")


def test_labels_for_tars(tmp_path, refused):
    write_imagenet(tmp_path)
    assert "bring their labels" in refused(tmp_path, "--labels", "labels.csv")


def test_mistakes_in_the_csv_come_together(tmp_path, refused):
    write_tree(tmp_path / "photos", ["1.jpg"])
    (tmp_path / "labels.csv").write_text("path,label\n2.jpg,cat\n../1.jpg,dog\n")
    message = refused(tmp_path / "photos", "--labels", str(tmp_path / "labels.csv"))
    assert "line 2" in message
    assert "line 3" in message


def test_a_class_that_training_does_not_have(tmp_path, refused):
    write_tree(tmp_path / "photos", ["train/cat/1.jpg", "val/dog/1.jpg"])
    assert "'dog' is not among those of the training images" in refused(tmp_path / "photos")


def test_two_folders_for_one_split(tmp_path, refused):
    write_tree(tmp_path / "photos", ["train/cat/1.jpg", "val/cat/1.jpg", "validation/cat/1.jpg"])
    assert "both the split validation" in refused(tmp_path / "photos")


def test_a_class_name_that_tfds_would_change(tmp_path, refused):
    write_tree(tmp_path / "photos", ["cat /1.jpg", "dog/2.jpg"])
    assert "class name 'cat '" in refused(tmp_path / "photos")


def test_no_label_at_all(tmp_path, refused):
    write_tree(tmp_path / "photos", ["1.jpg", "2.jpg"])
    assert "has a label" in refused(tmp_path / "photos")


def test_a_single_class(tmp_path, refused):
    """Photos nested in some folders, with one of them looking like a class."""
    write_tree(tmp_path / "photos", ["misc/1.jpg", "2024/trip/2.jpg", "2024/trip/3.jpg"])
    message = refused(tmp_path / "photos")
    assert "all labeled images have the label 'misc'" in message
    assert "2 images lie deeper than ROOT/CLASS and count as unlabeled, '2024/trip/2.jpg' for one" in message
    (tmp_path / "labels.csv").write_text("path,label\n2024/trip/2.jpg,cat\n")
    message = refused(tmp_path / "photos", "--labels", str(tmp_path / "labels.csv"))
    assert "all labeled images have the label 'cat'" in message
    assert "deeper" not in message


def test_a_source_that_is_not_there(tmp_path, refused):
    assert "is not a folder" in refused(tmp_path / "nowhere")


def test_a_data_dir_that_is_not_there(tmp_path, capsys):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    assert prepare(tmp_path / "photos", tmp_path / "unmounted") == 1
    assert "mount the disk" in capsys.readouterr().err
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.parametrize("name", ["digits", "own_folder", "My-Set", "1st", ""])
def test_names_that_cannot_be_used(tmp_path, refused, name):
    assert "cannot name a dataset" in refused(tmp_path, "--name", name, code=2)


def test_unknown_flags(tmp_path, refused):
    assert "--overwrite" in refused(tmp_path, "--overwrite", code=2)
