"""DINOv2 with and without registers, plain and gated: as transformers and timm compute it, in and out again."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from semivit_jax.data.images.crop_resize import resize_short_side_and_crop
from semivit_jax.export import export
from semivit_jax.models.vit import VIT_SIZES, ViTSize
from semivit_jax.weights import layout
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.preprocessing import Preprocessing, normalise
from tests.interop.conftest import PIXELS, our_features, our_logits, randomised, torch_output

pytestmark = pytest.mark.interop

RELATIVE = 1e-4
WIDTH, DEPTH, HEADS, PATCH = 48, 3, 3, 8
SIZES = {
    "dinov2_test": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH, layer_scale=True),
    "dinov2_test_reg4": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH, layer_scale=True, registers=4),
    "dinov2_test_g": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 128, mlp="swiglu", layer_scale=True),
    "dinov2_test_g_reg4": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 128, mlp="swiglu", layer_scale=True, registers=4),
}
OTHER_SIZES = (16, 48)  # pixels: the table shrinks, and grows
GAMMA, RESIDUAL = 8.0, 100.0  # what trained networks reach: factors of LayerScale, and at least one activation


@pytest.fixture(params=SIZES)
def variant(request, monkeypatch) -> str:
    monkeypatch.setitem(VIT_SIZES, request.param, SIZES[request.param])
    return request.param


@pytest.fixture(params=["small", "large"])
def scale(request) -> str:
    return request.param


def enlarged(model, scale: str):
    """The model, with LayerScale and activations as large as those of trained networks."""
    import torch

    generator = torch.Generator().manual_seed(1)
    if scale == "large":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1")):
                    parameter.copy_(GAMMA * torch.rand(parameter.shape, generator=generator))
                if name.endswith(("norm2.weight", "proj.weight", "projection.weight", "patch_embeddings.weight")):
                    parameter.mul_(6)
    return model


def hugging_face(variant: str, scale: str, *, with_head: bool = False):
    """transformers' model, its classifier reading the class token alone."""
    import torch
    import transformers

    size = SIZES[variant]
    sizes = {
        "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "image_size": PIXELS,
        "patch_size": PATCH, "mlp_ratio": 4, "use_swiglu_ffn": size.mlp == "swiglu", "num_labels": 5,
    }  # fmt: skip
    name = "Dinov2WithRegisters" if size.registers else "Dinov2"
    more = {"num_register_tokens": size.registers} if size.registers else {}
    config = getattr(transformers, f"{name}Config")(**sizes, **more)
    model = getattr(transformers, f"{name}ForImageClassification" if with_head else f"{name}Model")(config)
    model = enlarged(randomised(model), scale)
    if with_head:
        with torch.no_grad():
            model.classifier.weight[:, WIDTH:] = 0
    return model


def timm_model(variant: str, scale: str, *, image_size: int = PIXELS, num_classes: int = 5):
    import timm

    size = SIZES[variant]
    name = "vit_giant_patch14" if size.mlp == "swiglu" else "vit_small_patch14"
    model = timm.create_model(
        f"{name}_reg4_dinov2" if size.registers else f"{name}_dinov2",
        img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=num_classes,
        **({"mlp_ratio": (2 * size.mlp_dim + 0.5) / WIDTH} if size.mlp == "swiglu" else {}),
    )  # fmt: skip
    return enlarged(randomised(model), scale)


def imported(source, *, image_size=PIXELS):
    return import_weights(str(source), variant=None, pool=None, image_size=image_size, decoder=False)


def of_size(image_size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, image_size, image_size, 3)).astype(np.float32)


def assert_close(ours: np.ndarray, theirs: np.ndarray):
    assert np.abs(ours - theirs).max() <= RELATIVE * np.abs(theirs).max()


@pytest.mark.parametrize("image_size", [PIXELS, *OTHER_SIZES])
def test_features_are_those_of_transformers(tmp_path, variant, scale, image_size):
    import torch

    model = hugging_face(variant, scale)
    model.save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=image_size)
    assert result.weights.spec.variant == variant
    assert result.pool == "cls"
    images = of_size(image_size)
    assert_close(our_features(result, images), torch_output(lambda x: model(x).last_hidden_state[:, 0], images))
    with torch.no_grad():
        hidden = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), output_hidden_states=True).hidden_states
    assert scale == "small" or max(float(h.abs().max()) for h in hidden) > RESIDUAL


def test_a_classifier_of_transformers_comes_back_bit_for_bit(tmp_path, variant, scale):
    from transformers import AutoModelForImageClassification

    model = hugging_face(variant, scale, with_head=True)
    model.save_pretrained(tmp_path / "theirs")
    result = imported(tmp_path / "theirs")
    images = of_size(PIXELS)
    expected = torch_output(model, images)
    assert_close(our_logits(result, images), expected)
    export(tmp_path / "out", "hugging_face", result.weights)
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert type(again) is type(model)
    np.testing.assert_array_equal(torch_output(again, images), expected)
    stored, back = model.state_dict(), again.state_dict()
    assert stored.keys() - back.keys() <= {name for name in stored if "mask_token" in name}
    for name, tensor in back.items():
        if "mask_token" not in name:
            np.testing.assert_array_equal(tensor.numpy(), stored[name].numpy(), err_msg=name)


def test_a_classifier_that_reads_the_mean_too_is_left_out(tmp_path, monkeypatch):
    import torch

    monkeypatch.setitem(VIT_SIZES, "dinov2_test", SIZES["dinov2_test"])
    model = hugging_face("dinov2_test", "small", with_head=True)
    with torch.no_grad():
        model.classifier.weight[0, -1] = 1e-3
    model.save_pretrained(tmp_path)
    assert imported(tmp_path).weights.spec.num_classes == 0


def test_a_model_of_timm_comes_back_bit_for_bit(tmp_path, variant, scale):
    import timm
    from timm.models import save_for_hf

    model = timm_model(variant, scale)
    save_for_hf(model, tmp_path / "theirs", safe_serialization=True)
    result = imported(tmp_path / "theirs")
    assert result.weights.spec.variant == variant
    images = of_size(PIXELS)
    expected = torch_output(model, images)
    assert_close(our_logits(result, images), expected)
    assert_close(our_features(result, images), torch_output(lambda x: model.forward_features(x)[:, 0], images))
    export(tmp_path / "out", "timm", result.weights)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    np.testing.assert_array_equal(torch_output(again, images), expected)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)


@pytest.mark.parametrize("image_size", OTHER_SIZES)
def test_other_images_are_fitted_as_timm_does(tmp_path, variant, image_size):
    import safetensors.torch
    from timm.models.vision_transformer import checkpoint_filter_fn

    model, other = timm_model(variant, "small"), timm_model(variant, "small", image_size=image_size)
    safetensors.torch.save_model(model, tmp_path / "model.safetensors")
    other.load_state_dict(checkpoint_filter_fn(model.state_dict(), other))
    result, images = imported(tmp_path / "model.safetensors", image_size=image_size), of_size(image_size)
    assert_close(our_logits(result, images), torch_output(other, images))
    (row,) = (row for row in result.report.params if row.path == "posemb")
    assert row.note == "resized as timm does (antialiased)"


@pytest.mark.parametrize(
    ("registers", "rule"), [(0, "DINOv2's own code does (offset)"), (4, "DINOv2's own code does (antialiased)")]
)
def test_the_authors_own_files_are_told_by_their_mask_token(tmp_path, monkeypatch, registers, rule):
    """Names as their code gives them: chunked blocks, w12 and w3, register_tokens, a row for the class token."""
    import torch

    variant = "dinov2_test_g_reg4" if registers else "dinov2_test_g"
    monkeypatch.setitem(VIT_SIZES, variant, SIZES[variant])
    model = timm_model(variant, "small", num_classes=0)
    theirs = {"mask_token": torch.zeros(1, WIDTH)}
    for name, tensor in model.state_dict().items():
        name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        theirs[name.replace("reg_token", "register_tokens").replace("blocks.", "blocks.0.")] = tensor
    if registers:
        theirs["pos_embed"] = torch.cat([torch.zeros(1, 1, WIDTH), theirs["pos_embed"]], dim=1)
    torch.save(theirs, tmp_path / "dinov2_vitg14_pretrain.pth")
    result = imported(tmp_path / "dinov2_vitg14_pretrain.pth")
    assert_close(our_features(result, of_size(PIXELS)), torch_output(model, of_size(PIXELS)))
    resized = imported(tmp_path / "dinov2_vitg14_pretrain.pth", image_size=48)
    (row,) = (row for row in resized.report.params if row.path == "posemb")
    assert row.note == f"resized as {rule}"
    if not registers:  # by its definition: torch told to scale by (6 + 0.1) / 4
        grid = theirs["pos_embed"][:, 1:].reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
        expected = torch.nn.functional.interpolate(grid, scale_factor=(6.1 / 4, 6.1 / 4), mode="bicubic")
        ours = resized.weights.params["posemb"][0, 1:].reshape(6, 6, WIDTH)
        np.testing.assert_allclose(ours, expected[0].permute(1, 2, 0), atol=1e-6)


def prepared_photos(view: Preprocessing, processor, *, square: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's two photographs as our view prepares them, and as a processor of transformers does."""
    photos = [Image.fromarray(p[:420, : 420 if square else 630]) for p in sklearn.datasets.load_sample_images().images]
    pixels = np.stack([
        resize_short_side_and_crop(
            np.asarray(photo), image_size=view.image_size, crop_fraction=view.crop_fraction,
            interpolation=view.interpolation, max_pixels=10**8,  # pyright: ignore[reportArgumentType]
        )
        for photo in photos
    ])  # fmt: skip
    theirs = processor(photos, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    return np.asarray(normalise(pixels, view)), theirs


@pytest.mark.parametrize("image_size", [PIXELS, 48])
def test_photos_are_prepared_as_their_processor_does(tmp_path, monkeypatch, image_size):
    from transformers import BitImageProcessorPil

    monkeypatch.setitem(VIT_SIZES, "dinov2_test_reg4", SIZES["dinov2_test_reg4"])
    model = hugging_face("dinov2_test_reg4", "large", with_head=True)
    model.save_pretrained(tmp_path)
    crop = {"height": image_size, "width": image_size}
    processor = BitImageProcessorPil(size={"shortest_edge": image_size + 8}, crop_size=crop, resample=3)
    processor.save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    view = result.weights.preprocessing
    assert (view.image_size, view.resize_size) == (image_size, image_size + 8)
    images, theirs = prepared_photos(view, processor)
    np.testing.assert_allclose(images, theirs, atol=1e-5)
    assert_close(our_logits(result, images), torch_output(model, theirs))


@pytest.mark.parametrize("format", ["onnx", "timm", "hugging_face"])
def test_trained_weights_go_out_in_every_format(tmp_path, variant, format):
    """From transformers, so that the class token has a row of its own, which timm's registers leave no place for."""
    import timm

    model = hugging_face(variant, "large", with_head=True)
    model.save_pretrained(tmp_path / "theirs")
    weights, images = imported(tmp_path / "theirs").weights, of_size(PIXELS)
    expected = torch_output(model, images)
    weights = dataclasses.replace(weights, spec=dataclasses.replace(weights.spec))
    export(tmp_path / "out", format, weights)
    if format == "onnx":
        import onnxruntime

        pixels = np.random.default_rng(0).integers(0, 256, (2, PIXELS, PIXELS, 3), np.uint8)
        session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"images": pixels})
        images = np.asarray(normalise(pixels, weights.preprocessing))
        assert_close(logits, torch_output(model, images))
    elif format == "timm":
        again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
        assert_close(torch_output(again, images), expected)
    else:
        stored = json.loads((tmp_path / "out" / "config.json").read_text())
        assert stored["use_swiglu_ffn"] == (weights.spec.size.mlp == "swiglu")
    if format != "onnx":
        back = imported(tmp_path / "out").weights
        assert back.spec == weights.spec
        for path, array in layout.flatten(back.params).items():
            if format == "hugging_face" or path not in ("cls_token", "posemb"):
                np.testing.assert_array_equal(array, layout.flatten(weights.params)[path], err_msg=path)
