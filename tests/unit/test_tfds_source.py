"""TFDS datasets on disk: names and labels are read once; what cannot be used is refused with a way round."""

import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from semivit_jax.data import label_lists
from semivit_jax.data.sources import digits, tfds_source
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.tfds_source import open_split
from semivit_jax.data.splits import SplitError


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    digits.prepare(path)
    return path


class Unnamed(tfds.core.GeneratorBasedBuilder):
    """A dataset whose features are not called what ours are, without file names."""

    VERSION = tfds.core.Version("1.0.0")
    NUM_LABELS = 1
    FIRST_LABEL = 0

    def _info(self):
        labels = {f"kind{n}": tfds.features.ClassLabel(names=["a", "b"]) for n in range(self.NUM_LABELS)}
        features = tfds.features.FeaturesDict(
            {"picture": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"), **labels}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(4):
            labels = {f"kind{n}": (self.FIRST_LABEL + number) % 2 for n in range(self.NUM_LABELS)}
            yield number, {"picture": Image.new("RGB", (3 + number, 5)), **labels}


class TwoLabels(Unnamed):
    NUM_LABELS = 2


class OtherLabels(Unnamed):
    FIRST_LABEL = 1


def build(builder_class, data_dir):
    tfds.disable_progress_bar()
    builder_class(data_dir=data_dir, file_format="array_record").download_and_prepare()


def test_any_feature_names(tmp_path):
    build(Unnamed, tmp_path)
    opened = open_split("unnamed", "train", data_dir=tmp_path, cache_dir=tmp_path)
    assert opened.listing.class_names == ("a", "b")
    assert sorted(opened.listing.labels) == [0, 0, 1, 1]
    assert list(opened.listing.names) == [f"train/{n}" for n in range(4)]
    assert opened.records[0].startswith(b"\xff\xd8")


def test_a_list_of_one_numbered_set_is_refused_by_another(tmp_path):
    build(Unnamed, tmp_path)
    build(OtherLabels, tmp_path)
    for _ in range(2):  # listed, then from the cache
        first, second = (
            open_split(name, "train", data_dir=tmp_path, cache_dir=tmp_path).listing.names
            for name in ("unnamed", "other_labels")
        )
        label_lists.write(tmp_path / "list", np.array([0, 1]), first)
        np.testing.assert_array_equal(label_lists.read(tmp_path / "list", first), [0, 1])
        assert list(second) == list(first)
        with pytest.raises(SplitError, match="another set of files"):
            label_lists.read(tmp_path / "list", second)


def test_file_names_tell_sets_apart_by_themselves(built, tmp_path):
    names = open_split("digits", "test", data_dir=built, cache_dir=tmp_path).listing.names
    assert label_lists.listing_id(names) == label_lists.listing_id(list(names))


def test_more_than_one_label_is_refused(tmp_path):
    build(TwoLabels, tmp_path)
    with pytest.raises(DatasetError, match=r"not an image classification dataset.*\['kind0', 'kind1'\]"):
        open_split("two_labels", "train", data_dir=tmp_path, cache_dir=tmp_path)


def test_sub_splits_have_their_own_listing(built, tmp_path):
    first, rest = (
        open_split("digits", split, data_dir=built, cache_dir=tmp_path) for split in ("train[:100]", "train[100:]")
    )
    assert (len(first.records), len(rest.records)) == (100, 1337)
    assert not set(first.listing.names) & set(rest.listing.names)


def test_other_names_of_the_classes_are_noticed(tmp_path):
    """They lie in a file beside the records."""
    build(Unnamed, tmp_path)
    open_split("unnamed", "train", data_dir=tmp_path, cache_dir=tmp_path)
    (names,) = (tmp_path / "unnamed").rglob("*.labels.txt")
    names.write_text("a\nc\n")
    assert open_split("unnamed", "train", data_dir=tmp_path, cache_dir=tmp_path).listing.class_names == ("a", "c")


def test_names_that_cannot_be_kept_are_read_again(tmp_path, monkeypatch, caplog):
    """Of a read-only data set, with a user's cache folder that is a file."""
    build(Unnamed, tmp_path / "data")
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr(os, "access", lambda *_: False)
    for _ in range(2):
        caplog.clear()
        opened = open_split("unnamed", "train", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
        assert sorted(opened.listing.labels) == [0, 0, 1, 1]
        (told,) = [r.getMessage() for r in caplog.records if "cache" in r.getMessage()]
        assert "cannot be written (File exists)" in told


def test_kept_names_that_were_changed_are_read_again(tmp_path, caplog):
    build(Unnamed, tmp_path)
    open_split("unnamed", "train", data_dir=tmp_path, cache_dir=tmp_path)
    (kept,) = (tmp_path / "unnamed").rglob(".semivit_listing_*.npz")
    with np.load(kept) as saved:
        arrays = dict(saved)
    np.savez(kept, **(arrays | {"labels": 1 - arrays["labels"]}))
    assert list(open_split("unnamed", "train", data_dir=tmp_path, cache_dir=tmp_path).listing.labels) == list(
        arrays["labels"]
    )
    assert f"{kept} is damaged or cannot be read (it does not hold what was written)" in caplog.text


def test_labels_are_read_once_and_again_after_a_change(built, tmp_path, monkeypatch):
    data_dir = tmp_path / "copy"
    shutil.copytree(built, data_dir)
    first = open_split("digits", "test", data_dir=data_dir, cache_dir=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(tfds_source, "_read_listing", lambda *_: pytest.fail("read again"))
        again = open_split("digits", "test", data_dir=data_dir, cache_dir=tmp_path)
    np.testing.assert_array_equal(first.listing.labels, again.listing.labels)
    assert list(first.listing.names) == list(again.listing.names)
    (shard,) = (data_dir / "digits" / "1.0.0").glob("*test*")
    os.utime(shard, ns=(1, 1))
    monkeypatch.setattr(tfds_source, "_read_listing", lambda *_: pytest.fail("read again"))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        open_split("digits", "test", data_dir=data_dir, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("food101", r"Set config.data.data_dir to where it is.*semivit prepare.*In Python, tfds.builder\('food101'"),
        ("unheard_of", r"where it asks for tensorflow, run it once in another environment \(pip install tensorflow "),
        ("imagenet2012:5.1.0", "semivit prepare.*needs TensorFlow"),
        ("imagenet2012_subset/1pct", "semivit prepare.*needs TensorFlow"),
        ("i_naturalist2021", "cannot be created .* not packaged"),
        ("cars196", "needs TensorFlow.*reported dead"),
        ("cifar10", r"semivit prepare.*TensorFlow.* configs/cifar10.py .*dataset=own_folder --config.data.root=ROOT$"),
        *(
            (name, rf"needs TensorFlow, this once: run tfds.builder\('{name}'.* in another environment \(pip install")
            for name in ("cifar100", "mnist", "oxford_flowers102", "dtd", "eurosat/rgb")
        ),
    ],
)
def test_a_missing_dataset_says_where_and_how(tmp_path, name, hint):
    with pytest.raises(DatasetError, match=rf"{name}' is not in {tmp_path}.*{hint}"):
        open_split(name, "train", data_dir=tmp_path, cache_dir=tmp_path)


def test_a_builder_that_does_not_work_is_not_recommended(tmp_path):
    with pytest.raises(DatasetError) as told:
        open_split("i_naturalist2021", "train", data_dir=tmp_path, cache_dir=tmp_path)
    assert "download_and_prepare" not in str(told.value)


def test_what_is_no_dataset_name_is_refused_in_one_line(tmp_path):
    with pytest.raises(DatasetError, match=r"config.data.dataset is 'My Photos'; legal are own_folder") as told:
        open_split("My Photos", "train", data_dir=tmp_path, cache_dir=tmp_path)
    assert "\n" not in str(told.value)


def test_a_missing_split_names_those_there_are(built, tmp_path):
    with pytest.raises(DatasetError, match=r"no split 'validation'; it has: .*train"):
        open_split("digits", "validation", data_dir=built, cache_dir=tmp_path)


def test_tfrecord_is_refused_with_the_way_round(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    info = tmp_path / "copy" / "digits" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(DatasetError, match=r"tfrecord.*convert_format"):
        open_split("digits", "test", data_dir=tmp_path / "copy", cache_dir=tmp_path)
