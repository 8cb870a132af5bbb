"""Imports and data sets in a bucket are those that were put there."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax import files
from semivit_jax.checkpoints import init_from
from semivit_jax.config import ConfigError
from semivit_jax.data import label_lists
from semivit_jax.data.sources import digits, tfds_source
from semivit_jax.inference.import_own import import_own, is_own
from semivit_jax.weights import vit_names
from semivit_jax.weights.folder import is_import, load_imported, save_imported, stored_shapes
from semivit_jax.weights.importing import import_weights
from tests.bucket import emulator
from tests.state_dicts import PIXELS, state_dict


def upload(source, to):
    for name in files.below(files.path(source)):
        (to / name).write_bytes((files.path(source) / name).read_bytes())


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """That of a file of random weights."""
    source = tmp_path_factory.mktemp("weights") / "model.safetensors"
    safetensors.numpy.save_file(state_dict(vit_names.TIMM), source)
    return import_weights(str(source), variant="vit_test", pool=None, image_size=PIXELS, decoder=False)


def test_an_import_is_written_and_read(place, imported):
    save_imported(place, imported)
    assert sorted(str(name) for name in files.below(place)) == ["import.json", "params.safetensors"]
    found = load_imported(place)
    jax.tree.map(np.testing.assert_array_equal, found.weights.params, imported.weights.params)
    assert is_import(str(place))
    assert is_own(str(place))
    assert stored_shapes(place)
    assert init_from.find(str(place)) == place
    again = import_own(str(place), variant=imported.weights.spec.variant, pool=None, image_size=None, decoder=False)
    jax.tree.map(np.testing.assert_array_equal, again.weights.params, imported.weights.params)
    with pytest.raises(FileExistsError, match="already holds an import"):
        save_imported(place, imported)


def test_a_source_that_is_not_there_is_named(place):
    with pytest.raises(ConfigError, match=rf"^config.init_from {place} is not a folder; it names another run"):
        init_from.check(str(place))
    with pytest.raises(ConfigError, match=r"^config.init_from gs://another: there is no such bucket"):
        init_from.check("gs://another/run")
    with pytest.raises(ConfigError, match=r"^config.init_from gs:/b/x has one slash too few"):
        init_from.check("gs:/b/x")


def test_a_list_of_labeled_images_is_written(place):
    names = ["a", "b", "c"]
    label_lists.write(place / "list.csv", np.array([0, 2]), names)
    assert [line.split(",")[1] for line in (place / "list.csv").read_text().splitlines()] == ["Name", "a", "c"]


def test_a_tfds_set_is_read_from_the_bucket(place, store_url, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", store_url)
    digits.prepare(tmp_path)
    upload(tmp_path / "digits", place / "digits")
    on_a_disk, there = (
        tfds_source.open_split("digits", "train", data_dir=data_dir, cache_dir=tmp_path / "cache")
        for data_dir in (files.path(tmp_path), place)
    )
    assert there.listing.content_hash() == on_a_disk.listing.content_hash()
    assert len(there.records) == len(on_a_disk.records)
    assert all(there.records[index] == on_a_disk.records[index] for index in (0, 700, 1436))
    (tmp_path / "cache").mkdir(exist_ok=True)
    again = tfds_source.open_split("digits", "train", data_dir=place, cache_dir=tmp_path / "cache")
    assert again.listing.content_hash() == there.listing.content_hash()


def test_photos_and_their_labels_stay_on_a_disk():
    for text in (emulator.address("photos"), "gs:/b/photos"):
        with pytest.raises(
            OSError, match=rf"^{text}: this is read and written on a disk; mount the bucket \(gcsfuse\)"
        ):
            files.expanded(text)
