"""Photos of every kind are seen alike by a run, by its exports as the docs open them, and by an export come back."""

import dataclasses
import json

import numpy as np
import pytest

from semivit_jax.data.images.decode import decode
from semivit_jax.export import export
from semivit_jax.inference.import_own import import_own
from semivit_jax.inference.predict import Predictor
from semivit_jax.inference.trained import ModelInput, Trained, load_trained
from semivit_jax.models import families
from semivit_jax.weights import layout
from semivit_jax.weights.folder import save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.preprocessing import COLOURS, IMAGENET_224
from semivit_jax.weights.weights import Weights
from tests import photo_kinds
from tests.models import spec_of

FORMATS = ("timm", "hugging_face")  # those that are imported again


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photo_kinds.write(tmp_path_factory.mktemp("photos"))


def random_weights(*, exif_rotation: bool) -> Weights:
    spec, generator = spec_of("vit_test2", image_size=32, num_classes=3), np.random.default_rng(0)
    flat = {path: generator.normal(0, 0.3, shape).astype(np.float32) for path, shape in families.shapes(spec).items()}
    view = dataclasses.replace(IMAGENET_224, image_size=32, exif_rotation=exif_rotation)
    return Weights(spec, layout.unflatten(flat), ("cat", "dog", "owl"), view)


def imported(folder) -> Imported:
    return import_weights(str(folder), variant="vit_test2", pool=None, image_size=None, decoder=False)


def trained(weights: Weights) -> Trained:
    return Trained("here", weights, ModelInput(weights.preprocessing, False, 10**6), None, "class")


@pytest.mark.parametrize("exif_rotation", [True, False])
def test_the_docs_open_a_photo_as_it_is_read_here(photos, exif_rotation):
    for name, path in photos.items():
        for how in ("pillow", "fast"):
            ours = decode(path.read_bytes(), path=how, exif_rotation=exif_rotation, max_pixels=10**6)
            np.testing.assert_array_equal(np.asarray(photo_kinds.opened(path, exif_rotation)), ours, err_msg=name)


def test_turning_shows_in_what_is_turned(photos):
    turned = {name for name, path in photos.items()
              if photo_kinds.opened(path, True).size != photo_kinds.opened(path, False).size}  # fmt: skip
    assert turned == {name for name in photos if name.startswith("turned")}


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_comes_back_predicts_the_same(photos, tmp_path, format):
    weights = random_weights(exif_rotation=True)
    export(tmp_path / "out", format, weights)
    save_imported(tmp_path / "back", imported(tmp_path / "out"))
    again = import_own(str(tmp_path / "back"), variant="vit_test2", pool=None, image_size=None, decoder=False)
    assert again.weights.preprocessing == weights.preprocessing
    come_back = load_trained(tmp_path / "back", kept="latest", tree=None, stage=None)
    ours, theirs = (
        Predictor(one, batch_size=16).predict(list(photos.values())) for one in (trained(weights), come_back)
    )
    assert theirs == ours
    unturned = Predictor(trained(random_weights(exif_rotation=False)), batch_size=16).predict(list(photos.values()))
    differs = {name for name, one, other in zip(photos, ours.top5, unturned.top5, strict=True) if one != other}
    assert differs == {name for name in photos if name.startswith("turned")}


@pytest.mark.parametrize("format", [*FORMATS, "stablehlo"])
@pytest.mark.parametrize("exif_rotation", [True, False])
def test_every_export_says_what_is_done_to_a_photo(tmp_path, monkeypatch, format, exif_rotation):
    monkeypatch.setattr("semivit_jax.export.stablehlo._program", lambda *_: b"")  # slow to make, and says nothing of it
    export(tmp_path / "out", format, random_weights(exif_rotation=exif_rotation))
    if format == "stablehlo":
        record = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
        assert record["preprocessing"]["exif_rotation"] is exif_rotation
        assert COLOURS in record["input"]["meaning"]
        assert ("RGB pixels: turned as the EXIF" in record["input"]["meaning"]) is exif_rotation
    else:
        record = json.loads((tmp_path / "out" / "config.json").read_text())
        assert record["reading"] == {"exif_rotation": exif_rotation, "colours": COLOURS}


def test_an_older_import_is_read_as_before(tmp_path):
    weights = random_weights(exif_rotation=False)
    export(tmp_path / "out", "timm", weights)
    save_imported(tmp_path / "in", imported(tmp_path / "out"))
    record = json.loads((tmp_path / "in" / "import.json").read_text())
    del record["preprocessing"]["exif_rotation"], record["report"]["notes"]
    (tmp_path / "in" / "import.json").write_text(json.dumps(record))
    found = load_trained(tmp_path / "in", kept="latest", tree=None, stage=None)
    assert found.weights.preprocessing == weights.preprocessing
