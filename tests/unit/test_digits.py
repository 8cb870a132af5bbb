"""The digits dataset: exact pixels, a fixed test set, and safe building."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from semivit_jax.data.images.decode import decode
from semivit_jax.data.sources import digits, tfds_source


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    digits.prepare(path)
    return path


def test_scaling_is_inverted_exactly():
    raw = np.arange(17)
    np.testing.assert_array_equal(digits.to_raw_pixels(digits.from_raw_pixels(raw)), raw)
    assert digits.from_raw_pixels(raw)[-1] == 255


def test_records_hold_sklearns_pixels_and_labels(data_dir, tmp_path):
    raw, labels = load_digits(return_X_y=True)
    seen = []
    for split in ("train", "test"):
        opened = tfds_source.open_split("digits", split, data_dir=data_dir, cache_dir=tmp_path)
        for index, name in enumerate(opened.listing.names):
            position = int(Path(name).stem)
            seen.append(position)
            image = decode(opened.records[index], path="pillow", exif_rotation=False, max_pixels=64)
            np.testing.assert_array_equal(digits.to_raw_pixels(image[..., 0]), raw[position].reshape(8, 8))
            assert opened.listing.labels[index] == labels[position]
    assert sorted(seen) == list(range(1797))


def test_test_set_is_stratified():
    labels = load_digits(return_X_y=True)[1]
    test = digits.test_indices(labels)
    assert len(test) == len(set(test)) == digits.NUM_TEST
    assert set(np.bincount(labels[test])) == {36}


def test_plain_tensorflow_datasets_reads_it(data_dir):
    builder = tfds.builder_from_directory(data_dir / "digits" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 1437
    assert builder.as_data_source(split="test")[0]["image"].shape == (8, 8, 1)


def test_building_again_changes_nothing(data_dir):
    before = (data_dir / "digits" / "1.0.0").stat().st_mtime_ns
    digits.prepare(data_dir)
    assert (data_dir / "digits" / "1.0.0").stat().st_mtime_ns == before


@pytest.mark.slow  # by default: the race below, in one process
def test_two_processes_build_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=digits.prepare, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_the_loser_of_the_race_uses_the_winners_build(tmp_path, monkeypatch):
    build = digits.Digits.download_and_prepare

    def build_while_another_finishes(self):
        build(self)
        if not (tmp_path / "digits" / "1.0.0").exists():
            monkeypatch.setattr(digits.Digits, "download_and_prepare", build)
            digits.prepare(tmp_path)

    monkeypatch.setattr(digits.Digits, "download_and_prepare", build_while_another_finishes)
    assert digits.prepare(tmp_path).exists()
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("disk full")

    monkeypatch.setattr(digits.Digits, "download_and_prepare", fail)
    with pytest.raises(OSError, match="disk full"):
        digits.prepare(tmp_path)
    assert list((tmp_path / "digits").iterdir()) == []
