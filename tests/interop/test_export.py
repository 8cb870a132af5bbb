"""Every export is read by the tool it is made for and gives our logits, preprocessing included."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from semivit_jax.data.images.crop_resize import resize_short_side_and_crop
from semivit_jax.data.images.decode import decode
from semivit_jax.export import export
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN, ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.preprocessing import Preprocessing, normalise
from semivit_jax.weights.weights import Weights
from tests import photo_kinds
from tests.interop.conftest import torch_output
from tests.models import spec_of

pytestmark = pytest.mark.interop

TOLERANCE = 1e-4
IMAGE_SIZE = 64
CLASS_NAMES = ("cat", "dog", "owl", "fox", "newt")
VIEW = Preprocessing(
    image_size=IMAGE_SIZE,
    crop_fraction=0.875,
    interpolation="bicubic",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
    exif_rotation=False,
)
_MODEL = {"image_size": IMAGE_SIZE, "num_classes": 5}
MODELS = {
    "mean": spec_of("vit_test", **_MODEL),
    "sincos": spec_of("vit_test", **_MODEL, posemb="sincos"),
    "cls": spec_of("vit_test", **_MODEL, pool="cls"),
    "convnext": spec_of("convnext_test", **_MODEL),
}
OTHER_EPS = 0.1  # of LayerNorm, large enough to show in the logits


@pytest.fixture(params=MODELS)
def weights(request) -> Weights:
    return random_weights(MODELS[request.param])


def random_weights(spec: ModelSpec) -> Weights:
    generator = np.random.default_rng(0)
    flat = {
        path: ((path.endswith(("scale", "gamma"))) + 0.1 * generator.standard_normal(shape)).astype(np.float32)
        for path, shape in families.shapes(spec).items()
    }
    return Weights(spec=spec, params=layout.unflatten(flat), class_names=CLASS_NAMES, preprocessing=VIEW)


def synthetic_photo(width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with edges and some noise, not square."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 12, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    smooth[height // 3 :, : width // 2] //= 2
    noisy = smooth + generator.integers(-8, 9, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def real_photos() -> list[Image.Image]:
    """The two photographs that scikit-learn brings, whole and cut to odd and upright sizes."""
    photos = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    boxes = [(0, 0, 640, 427), (100, 50, 433, 271), (300, 10, 475, 401), (5, 200, 102, 299)]
    return [photo.crop(box) for photo in photos for box in boxes]


@pytest.fixture(params=["synthetic", "real"])
def photos(request) -> list[Image.Image]:
    if request.param == "real":
        return real_photos()
    return [synthetic_photo(150, 100, 0), synthetic_photo(90, 201, 1)]


def evaluation_view(photo: Image.Image) -> np.ndarray:
    """What our models are evaluated on."""
    return resize_short_side_and_crop(
        np.asarray(photo),
        image_size=VIEW.image_size,
        crop_fraction=VIEW.crop_fraction,
        interpolation=VIEW.interpolation,  # pyright: ignore[reportArgumentType]
        max_pixels=10**8,
    )


def expected_logits(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    images = normalise(pixels, weights.preprocessing)
    return np.asarray(jax.jit(families.network(weights.spec, PLAIN, 0.0).logits)(weights.params, images, None))


def test_timm_reads_its_folder(tmp_path, weights, photos):
    import timm
    import torch

    export(tmp_path / "out", "timm", weights)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        logits = model(torch.stack([transform(photo) for photo in photos])).numpy()
    pixels = np.stack([evaluation_view(photo) for photo in photos])
    np.testing.assert_allclose(logits, expected_logits(weights, pixels), atol=TOLERANCE)
    assert tuple(model.pretrained_cfg["label_names"]) == CLASS_NAMES


def test_transformers_reads_its_folder(tmp_path, weights, photos):
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    export(tmp_path / "out", "hugging_face", weights)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = model(**processor(photos, return_tensors="pt")).logits.numpy()
    pixels = np.stack([evaluation_view(photo) for photo in photos])
    np.testing.assert_allclose(logits, expected_logits(weights, pixels), atol=TOLERANCE)
    assert tuple(model.config.id2label.values()) == CLASS_NAMES
    expected_class = {
        ("vit", "cls"): "ViTForImageClassification",
        ("vit", "mean"): "TimmWrapperForImageClassification",
        ("convnext", "mean"): "ConvNextForImageClassification",
    }
    assert type(model).__name__ == expected_class[weights.spec.family, weights.spec.pool]


def test_onnxruntime_reads_its_file(tmp_path, weights, photos):
    import onnxruntime

    export(tmp_path / "out", "onnx", weights)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = np.stack([evaluation_view(photo) for photo in photos])
    for batch in (pixels, pixels[:1]):
        (logits,) = session.run(None, {"images": batch})
        np.testing.assert_allclose(logits, expected_logits(weights, batch), atol=TOLERANCE)
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["class_names"])) == CLASS_NAMES
    assert Preprocessing.from_json(json.loads(metadata["preprocessing"])) == VIEW


@pytest.mark.parametrize("name", ["mean", "convnext"])
def test_onnxruntime_computes_an_mlp_head(tmp_path, name):
    import onnxruntime

    weights = random_weights(dataclasses.replace(MODELS[name], head="mlp"))
    export(tmp_path / "out", "onnx", weights)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    (logits,) = session.run(None, {"images": pixels})
    np.testing.assert_allclose(logits, expected_logits(weights, pixels), atol=TOLERANCE)


def test_consumers_see_photos_of_every_kind_as_training_does(tmp_path):
    """Their own loaders, on photos that are opened as the docs say, beside our own decoding."""
    import timm
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    weights = random_weights(MODELS["cls"])
    weights = dataclasses.replace(weights, preprocessing=dataclasses.replace(VIEW, exif_rotation=True))
    (tmp_path / "photos").mkdir()
    paths = photo_kinds.write(tmp_path / "photos").values()
    decoded = [decode(path.read_bytes(), path="pillow", exif_rotation=True, max_pixels=10**6) for path in paths]
    pixels = np.stack([evaluation_view(Image.fromarray(image)) for image in decoded])
    expected = expected_logits(weights, pixels)

    export(tmp_path / "timm", "timm", weights)
    reading = json.loads((tmp_path / "timm" / "config.json").read_text())["reading"]
    photos = [photo_kinds.opened(path, reading["exif_rotation"]) for path in paths]
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        logits = model(torch.stack([transform(photo) for photo in photos])).numpy()
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)

    export(tmp_path / "hugging_face", "hugging_face", weights)
    assert AutoConfig.from_pretrained(tmp_path / "hugging_face").reading == reading
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "hugging_face").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "hugging_face")
    with torch.no_grad():
        logits = model(**processor(photos, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["cls", "convnext"])
def test_transformers_computes_with_our_layer_norm_eps(tmp_path, name):
    from transformers import AutoModelForImageClassification

    weights = random_weights(dataclasses.replace(MODELS[name], layer_norm_eps=OTHER_EPS))
    export(tmp_path / "out", "hugging_face", weights)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    pixels = np.stack([evaluation_view(synthetic_photo(150, 100, 0))])
    logits = torch_output(model, np.asarray(normalise(pixels, VIEW)))
    np.testing.assert_allclose(logits, expected_logits(weights, pixels), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["mean", "cls", "convnext"])
def test_onnxruntime_computes_with_our_layer_norm_eps(tmp_path, name):
    import onnxruntime

    weights = random_weights(dataclasses.replace(MODELS[name], layer_norm_eps=OTHER_EPS))
    export(tmp_path / "out", "onnx", weights)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = np.stack([evaluation_view(synthetic_photo(150, 100, 0))])
    (logits,) = session.run(None, {"images": pixels})
    np.testing.assert_allclose(logits, expected_logits(weights, pixels), atol=TOLERANCE)
