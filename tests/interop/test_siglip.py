"""SigLIP's image towers as transformers, timm and OpenCLIP have them: pooled by attention or a mean, out again."""

import json

import numpy as np
import pytest

from semivit_jax.export import export
from semivit_jax.models.siglip import SIGLIP_SIZES
from semivit_jax.models.vit import ViTSize
from semivit_jax.weights.account import Status
from tests.interop.conftest import PIXELS, our_features, our_logits, photo_views, randomised, torch_output
from tests.interop.test_clip import enlarged
from tests.interop.test_dinov2 import RESIDUAL, assert_close, imported, prepared_photos

pytestmark = pytest.mark.interop

WIDTH, DEPTH, HEADS, PATCH, HIDDEN = 48, 3, 3, 8, 179  # hidden values: no multiple of the width, as of So400m
SIZES = {
    "siglip_test": ViTSize(PATCH, WIDTH, DEPTH, HEADS, HIDDEN, mlp="gelu_tanh"),
    "siglip_test_erf": ViTSize(PATCH, WIDTH, DEPTH, HEADS, HIDDEN),
}
IMAGE_SIZES = (PIXELS, 48)
TIMM_POOLS = {"map": "", "avg": "gap_"}


@pytest.fixture(params=SIZES)
def variant(request, monkeypatch) -> str:
    for name, size in SIZES.items():
        monkeypatch.setitem(SIGLIP_SIZES, name, size)
    return request.param


@pytest.fixture(params=["small", "large"])
def scale(request) -> str:
    return request.param


def hugging_face(variant: str, scale: str, kind: str):
    import transformers

    vision = {
        "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "intermediate_size": HIDDEN,
        "patch_size": PATCH, "image_size": PIXELS,
        "hidden_act": "gelu_pytorch_tanh" if SIZES[variant].mlp == "gelu_tanh" else "gelu",
    }  # fmt: skip
    if kind == "SiglipVisionModel":
        config = transformers.SiglipVisionConfig(**vision)
    else:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "vocab_size": 40}  # fmt: skip
        config = transformers.SiglipConfig(vision_config=vision, text_config=text, num_labels=5)
    return enlarged(randomised(getattr(transformers, kind)(config)), scale)


def timm_model(variant: str, scale: str, *, image_size: int = PIXELS, pool: str = "map", num_classes: int = 5):
    import timm

    model = timm.create_model(
        f"vit_base_patch16_siglip_{TIMM_POOLS[pool]}224", img_size=image_size, patch_size=PATCH, embed_dim=WIDTH,
        depth=DEPTH, num_heads=HEADS, mlp_ratio=(HIDDEN + 0.5) / WIDTH, act_layer=SIZES[variant].mlp,
        num_classes=num_classes,
    )  # fmt: skip
    return enlarged(randomised(model), scale)


@pytest.mark.parametrize("kind", ["SiglipVisionModel", "SiglipModel"])
def test_features_are_those_of_transformers(tmp_path, variant, scale, kind):
    import torch

    model = hugging_face(variant, scale, kind)
    model.save_pretrained(tmp_path)
    tower = model if kind == "SiglipVisionModel" else model.vision_model
    for image_size in IMAGE_SIZES:
        result, images = imported(tmp_path, image_size=image_size), photo_views(image_size)
        spec = result.weights.spec
        assert (spec.variant, spec.pool, spec.num_classes, result.pool) == (variant, "map", 0, "map")
        expected = torch_output(lambda x: tower(x, interpolate_pos_encoding=True).pooler_output, images)
        assert_close(our_features(result, images), expected)
    with torch.no_grad():
        pixels = torch.from_numpy(photo_views(PIXELS).transpose(0, 3, 1, 2).copy())
        hidden = tower(pixels, output_hidden_states=True).hidden_states
    assert scale == "small" or max(float(h.abs().max()) for h in hidden) > RESIDUAL


def test_a_classifier_of_transformers_reads_the_mean(tmp_path, variant, scale):
    model = hugging_face(variant, scale, "SiglipForImageClassification")
    model.save_pretrained(tmp_path)
    result, images = imported(tmp_path), photo_views(PIXELS)
    assert (result.weights.spec.pool, result.weights.spec.num_classes) == ("mean", 5)
    assert_close(our_logits(result, images), torch_output(model, images))
    left = {row.note for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left == {"attention pooling: the head reads a mean"}


@pytest.mark.parametrize("pool", TIMM_POOLS)
def test_a_model_of_timm_comes_back_bit_for_bit(tmp_path, variant, scale, pool):
    import timm
    from timm.models import save_for_hf
    from timm.models.vision_transformer import checkpoint_filter_fn

    arguments = {"act_layer": SIZES[variant].mlp}
    model = timm_model(variant, scale, pool=pool)
    save_for_hf(model, tmp_path / "theirs", model_args=arguments, safe_serialization=True)
    other = timm_model(variant, scale, image_size=48, pool=pool)
    other.load_state_dict(checkpoint_filter_fn(model.state_dict(), other))
    for image_size, theirs in zip(IMAGE_SIZES, (model, other), strict=True):
        result, images = imported(tmp_path / "theirs", image_size=image_size), photo_views(image_size)
        assert result.weights.spec.variant == variant
        assert_close(our_logits(result, images), torch_output(theirs, images))
    result, images = imported(tmp_path / "theirs"), photo_views(PIXELS)
    export(tmp_path / "out", "timm", result.weights)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    np.testing.assert_array_equal(torch_output(again, images), torch_output(model, images))
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)
    assert imported(tmp_path / "out").weights.spec == result.weights.spec


@pytest.mark.parametrize("pool", TIMM_POOLS)
def test_transformers_reads_its_folder(tmp_path, variant, pool):
    from timm.models import save_for_hf
    from transformers import AutoModelForImageClassification

    model = timm_model(variant, "large", pool=pool)
    save_for_hf(model, tmp_path / "theirs", model_args={"act_layer": SIZES[variant].mlp}, safe_serialization=True)
    export(tmp_path / "out", "hugging_face", imported(tmp_path / "theirs").weights)
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert_close(torch_output(again, photo_views(PIXELS)), torch_output(model, photo_views(PIXELS)))
    assert imported(tmp_path / "out").weights.spec.variant == variant


def test_a_trunk_of_openclip_is_read_as_timm_reads_it(tmp_path, monkeypatch):
    import torch
    from timm.models.vision_transformer import checkpoint_filter_fn

    monkeypatch.setitem(SIGLIP_SIZES, "siglip_test_erf", SIZES["siglip_test_erf"])
    model = timm_model("siglip_test_erf", "large", num_classes=0)
    theirs = {f"visual.trunk.{name}": tensor for name, tensor in model.state_dict().items()}
    texts = {"text.ln_final.weight": torch.ones(4), "logit_scale": torch.tensor(1.0), "logit_bias": torch.tensor(0.0)}
    read = checkpoint_filter_fn(theirs | texts, model)
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())
    torch.save(theirs | texts, tmp_path / "open_clip_pytorch_model.bin")
    result = imported(tmp_path / "open_clip_pytorch_model.bin", image_size=None)
    assert result.weights.preprocessing.image_size == PIXELS
    assert_close(our_features(result, photo_views(PIXELS)), torch_output(model, photo_views(PIXELS)))


def test_photos_are_prepared_as_their_processor_does(tmp_path, variant):
    from transformers import SiglipImageProcessorPil

    model = hugging_face(variant, "large", "SiglipVisionModel")
    model.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": PIXELS, "width": PIXELS}).save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    assert any("squashed" in note for note in result.report.notes)
    processor = SiglipImageProcessorPil.from_pretrained(tmp_path)
    images, theirs = prepared_photos(result.weights.preprocessing, processor, square=True)
    np.testing.assert_allclose(images, theirs, atol=1e-5)
    assert_close(our_features(result, images), torch_output(lambda x: model(x).pooler_output, theirs))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"hidden_act": "relu"}, "hidden_act 'relu'"), ({"model_type": "siglip2"}, "model_type 'siglip2': only")],
)
def test_another_computation_is_refused_by_name(tmp_path, variant, change, message):
    hugging_face(variant, "small", "SiglipVisionModel").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        imported(tmp_path)
