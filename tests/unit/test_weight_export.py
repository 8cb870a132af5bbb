"""Export without the consumers: round trips bit for bit, the StableHLO program, refusals."""

import dataclasses
import importlib.util
import json

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.export import export
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights import layout
from semivit_jax.weights.exchanges import arrays_of
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.preprocessing import Preprocessing, normalise
from semivit_jax.weights.weights import Weights
from tests.compiled import quick_jit
from tests.models import spec_of

VIEW = Preprocessing(
    image_size=32,
    crop_fraction=0.8,
    interpolation="bilinear",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
    exif_rotation=True,
)
MODELS = {
    "mean": spec_of("vit_test", num_classes=3),
    "cls": spec_of("vit_test", num_classes=3, pool="cls"),
    "sincos": spec_of("vit_test", num_classes=3, posemb="sincos"),
    "convnext": spec_of("convnext_test", num_classes=3),
}


def random_weights(name: str) -> Weights:
    spec, generator = MODELS[name], np.random.default_rng(0)
    flat = {path: generator.standard_normal(shape) * 0.1 for path, shape in families.shapes(spec).items()}
    params = layout.unflatten({path: array.astype(np.float32) for path, array in flat.items()})
    return Weights(spec=spec, params=params, class_names=("cat", "dog", "owl"), preprocessing=VIEW)


def imported_back(folder, weights: Weights) -> Weights:
    variant = weights.spec.variant
    return import_weights(str(folder), variant=variant, pool=None, image_size=None, decoder=False).weights


@pytest.mark.parametrize("format", ["timm", "hugging_face"])
@pytest.mark.parametrize("name", ["mean", "cls", "convnext"])
def test_what_goes_out_comes_back_bit_for_bit(tmp_path, format, name):
    weights = random_weights(name)
    export(tmp_path / "out", format, weights)
    back = imported_back(tmp_path / "out", weights)
    assert (back.spec, back.preprocessing, back.class_names) == (weights.spec, VIEW, weights.class_names)
    ours, theirs = layout.flatten(weights.params), layout.flatten(back.params)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(theirs[path], array)


def with_eps(weights: Weights) -> Weights:
    """The same with an epsilon that shows in the logits."""
    return dataclasses.replace(weights, spec=dataclasses.replace(weights.spec, layer_norm_eps=0.1))


@pytest.mark.parametrize("name", ["cls", "convnext"])
def test_hugging_face_is_told_the_layer_norm_eps(tmp_path, name):
    weights = with_eps(random_weights(name))
    export(tmp_path / "out", "hugging_face", weights)
    assert imported_back(tmp_path / "out", weights).spec == weights.spec


@pytest.mark.parametrize(
    ("name", "format"), [("mean", "timm"), ("cls", "timm"), ("convnext", "timm"), ("mean", "hugging_face")]
)
def test_what_timm_would_compute_otherwise_is_refused(tmp_path, name, format):
    weights = with_eps(random_weights(name))
    with pytest.raises(
        ValueError, match=r"layer_norm_eps 0\.1: a \w+ of timm computes with 1e-06; .* as stablehlo, onnx"
    ):
        export(tmp_path / "out", format, weights)
    assert not (tmp_path / "out").exists()


def test_a_frozen_position_embedding_is_written_out(tmp_path):
    weights = random_weights("sincos")
    export(tmp_path / "out", "timm", weights)
    stored = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")["pos_embed"]
    np.testing.assert_array_equal(stored, arrays_of(weights)["posemb"])
    assert stored.shape == (1, 17, 48)
    assert np.ptp(stored) > 1


@pytest.mark.parametrize(("name", "batches"), [("mean", (1, 3)), ("convnext", (2,))])
def test_the_stablehlo_program_gives_our_logits_for_any_batch(tmp_path, name, batches):
    weights, out = with_eps(random_weights(name)), tmp_path / "out"
    export(out, "stablehlo", weights)
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    params = safetensors.numpy.load_file(out / "params.safetensors")
    apply = quick_jit(families.network(weights.spec, PLAIN, 0.0).logits)
    for batch in batches:
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 3), np.uint8)
        images = (pixels / 255 - np.array(VIEW.mean)) / np.array(VIEW.std)
        expected = apply(weights.params, images.astype(np.float32), None)
        np.testing.assert_allclose(program.call(params, pixels), expected, atol=1e-4)
    record = json.loads((out / "preprocessing.json").read_text())
    assert record["class_names"] == ["cat", "dog", "owl"]
    assert Preprocessing.from_json(record["preprocessing"]) == VIEW
    assert "short side resized to 40 (bilinear" in record["input"]["meaning"]


def test_pixels_are_normalised_as_trained():
    pixels = np.array([[0, 128, 255]], np.uint8)
    expected = [[(0 - 0.5) / 0.2, (128 / 255 - 0.4) / 0.25, (1 - 0.3) / 0.3]]
    np.testing.assert_allclose(normalise(pixels, VIEW), expected, rtol=1e-6)


def test_an_unknown_format_lists_the_legal_ones(tmp_path):
    with pytest.raises(ValueError, match="'keras': must be one of timm, hugging_face, onnx, stablehlo"):
        export(tmp_path / "out", "keras", random_weights("mean"))


def test_without_onnx_the_command_that_brings_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install -c requirements/constraints.txt -e '.\[onnx\]'$"):
        export(tmp_path / "out", "onnx", random_weights("mean"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        export(tmp_path, "timm", random_weights("mean"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("cat",)}, "1 class name for 3 outputs"),
        ({"preprocessing": dataclasses.replace(VIEW, image_size=40)}, "gives 40 pixels, the model takes 32"),
        ({"spec": spec_of("convnext_test", num_classes=0)}, "no head"),
    ],
)
def test_what_is_no_whole_classifier_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "out", "timm", dataclasses.replace(random_weights("mean"), **change))
    assert not (tmp_path / "out").exists()
