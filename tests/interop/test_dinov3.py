"""DINOv3's ViTs, plain and gated: as transformers and timm compute them, at sizes that they were not made for."""

import numpy as np
import pytest

from semivit_jax.export import export
from semivit_jax.models.dinov3 import DINOV3_SIZES
from semivit_jax.models.vit import ViTSize
from tests.interop.conftest import PIXELS, our_features, our_logits, randomised, torch_output
from tests.interop.test_dinov2 import RESIDUAL, assert_close, enlarged, imported, of_size, prepared_photos

pytestmark = pytest.mark.interop

WIDTH, DEPTH, HEADS, PATCH = 48, 3, 3, 8
SIZES = {
    "dinov3_test": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH, layer_scale=True, registers=4),
    "dinov3_test_plus": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH, mlp="swiglu", layer_scale=True, registers=4),
}
IMAGE_SIZES = (PIXELS, 48)


@pytest.fixture(params=SIZES)
def variant(request, monkeypatch) -> str:
    monkeypatch.setitem(DINOV3_SIZES, request.param, SIZES[request.param])
    return request.param


def hugging_face(variant: str, scale: str):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    gated = SIZES[variant].mlp == "swiglu"
    config = DINOv3ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        patch_size=PATCH, num_register_tokens=4, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    return enlarged(randomised(DINOv3ViTModel(config)), scale)


def timm_model(variant: str, scale: str, *, image_size: int = PIXELS, bias: bool = True, pool: str = "token"):
    import timm

    gated = "plus_" if SIZES[variant].mlp == "swiglu" else ""
    model = timm.create_model(
        f"vit_small_{gated}patch16_dinov3{'_qkvb' if bias else ''}",
        img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=5,
        global_pool=pool,
    )  # fmt: skip
    return enlarged(randomised(model), scale)


@pytest.mark.parametrize("scale", ["small", "large"])
def test_features_are_those_of_transformers(tmp_path, variant, scale):
    import torch

    model = hugging_face(variant, scale)
    model.save_pretrained(tmp_path)
    for image_size in IMAGE_SIZES:
        result, images = imported(tmp_path, image_size=image_size), of_size(image_size)
        spec = result.weights.spec
        assert (spec.variant, spec.layer_norm_eps, spec.posemb, result.pool) == (variant, 1e-5, "none", "cls")
        assert_close(our_features(result, images), torch_output(lambda x: model(x).last_hidden_state[:, 0], images))
    with torch.no_grad():
        hidden = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), output_hidden_states=True).hidden_states
    assert scale == "small" or max(float(h.abs().max()) for h in hidden) > RESIDUAL


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_model_of_timm_comes_back_bit_for_bit(tmp_path, variant, pool, bias):
    import timm
    from timm.models import save_for_hf

    model = timm_model(variant, "large", bias=bias, pool=pool)
    save_for_hf(model, tmp_path / "theirs", safe_serialization=True)
    for image_size in IMAGE_SIZES:
        result, images = imported(tmp_path / "theirs", image_size=image_size), of_size(image_size)
        assert result.weights.spec.variant == variant
        other = timm_model(variant, "large", image_size=image_size, bias=bias, pool=pool)
        other.load_state_dict(model.state_dict())
        assert_close(our_logits(result, images), torch_output(other, images))
    export(tmp_path / "out", "timm", result.weights)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert_close(torch_output(again, images), torch_output(other, images))
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)


def test_transformers_reads_its_folder(tmp_path, variant):
    from timm.models import save_for_hf
    from transformers import AutoModelForImageClassification

    model = timm_model(variant, "large")
    save_for_hf(model, tmp_path / "theirs", safe_serialization=True)
    export(tmp_path / "out", "hugging_face", imported(tmp_path / "theirs").weights)
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert_close(torch_output(again, of_size(PIXELS)), torch_output(model, of_size(PIXELS)))
    back = imported(tmp_path / "out").weights
    assert back.spec.variant == variant


@pytest.mark.parametrize(("key", "value"), [("rope_theta", 10.0), ("key_bias", True), ("hidden_act", "relu")])
def test_another_computation_is_refused_by_name(tmp_path, monkeypatch, key, value):
    import json

    monkeypatch.setitem(DINOV3_SIZES, "dinov3_test", SIZES["dinov3_test"])
    hugging_face("dinov3_test", "small").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{key} {value!r}"):
        imported(tmp_path)


def test_photos_are_prepared_as_their_processor_does(tmp_path, variant):
    """It resizes numbers in float32, and we bytes, which are rounded after rows and after columns; of square photos."""
    from transformers import DINOv3ViTImageProcessor

    model = hugging_face(variant, "large")
    model.save_pretrained(tmp_path)
    processor = DINOv3ViTImageProcessor(size={"height": PIXELS, "width": PIXELS})
    processor.save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    view = result.weights.preprocessing
    assert (view.image_size, view.interpolation) == (PIXELS, "bilinear")
    assert any("squashed" in note for note in result.report.notes)
    images, theirs = prepared_photos(view, processor, square=True)
    np.testing.assert_allclose(images, theirs, rtol=0, atol=2 * 0.5 / 255 / min(view.std))
    assert_close(our_features(result, theirs), torch_output(lambda x: model(x).last_hidden_state[:, 0], theirs))
