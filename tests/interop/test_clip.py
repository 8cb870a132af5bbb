"""CLIP's image towers as transformers, timm and OpenAI's names have them: features, projection left out, out again."""

import numpy as np
import pytest

from semivit_jax.export import export
from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.models.vit import ViTSize
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from tests.interop.conftest import PIXELS, our_features, our_logits, photo_views, randomised, torch_output
from tests.interop.test_dinov2 import RESIDUAL, assert_close, imported, prepared_photos

pytestmark = pytest.mark.interop

WIDTH, DEPTH, HEADS, PATCH, SPACE = 48, 3, 3, 8, 20
SIZES = {
    "clip_test": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH),
    "clip_test_quick": ViTSize(PATCH, WIDTH, DEPTH, HEADS, 4 * WIDTH, mlp="quick_gelu"),
}
IMAGE_SIZES = (PIXELS, 48)


@pytest.fixture(params=SIZES)
def variant(request, monkeypatch) -> str:
    for name, size in SIZES.items():
        monkeypatch.setitem(CLIP_SIZES, name, size)
    return request.param


@pytest.fixture(params=["small", "large"])
def scale(request) -> str:
    return request.param


def enlarged(model, scale: str):
    """Activations as large as those of trained networks: norms and what branches add, times several."""
    import torch

    if scale == "large":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("fc2.weight", "out_proj.weight", "proj.weight")):
                    parameter.mul_(12)
                if "norm" in name and name.endswith("weight"):
                    parameter.mul_(3)
    return model


def hugging_face(variant: str, scale: str, *, kind: str = "CLIPVisionModel"):
    import transformers

    vision = {
        "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH,
        "patch_size": PATCH, "image_size": PIXELS, "projection_dim": SPACE,
        "hidden_act": "quick_gelu" if SIZES[variant].mlp == "quick_gelu" else "gelu",
    }  # fmt: skip
    if kind == "CLIPVisionModel":
        return enlarged(randomised(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision))), scale)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 40, "projection_dim": SPACE, "eos_token_id": 2}  # fmt: skip
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=SPACE)
    return enlarged(randomised(transformers.CLIPModel(config)), scale)


def timm_model(variant: str, scale: str, *, image_size: int = PIXELS, pool: str = "token", num_classes: int = 5):
    import timm

    quick = "quickgelu_" if SIZES[variant].mlp == "quick_gelu" else ""
    model = timm.create_model(
        f"vit_base_patch16_clip_{quick}224", img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
        num_heads=HEADS, num_classes=num_classes, global_pool=pool,
    )  # fmt: skip
    return enlarged(randomised(model), scale)


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPModel"])
def test_features_are_those_of_transformers(tmp_path, variant, scale, kind):
    import torch

    model = hugging_face(variant, scale, kind=kind)
    model.save_pretrained(tmp_path)
    tower = model if kind == "CLIPVisionModel" else model.vision_model
    for image_size in IMAGE_SIZES:
        result, images = imported(tmp_path, image_size=image_size), photo_views(image_size)
        spec = result.weights.spec
        assert (spec.variant, spec.layer_norm_eps, spec.num_classes, result.pool) == (variant, 1e-5, 0, "cls")
        expected = torch_output(lambda x: tower(x, interpolate_pos_encoding=True).pooler_output, images)
        assert_close(our_features(result, images), expected)
    with torch.no_grad():
        pixels = torch.from_numpy(photo_views(PIXELS).transpose(0, 3, 1, 2).copy())
        hidden = tower(pixels, output_hidden_states=True).hidden_states
    assert scale == "small" or max(float(h.abs().max()) for h in hidden) > RESIDUAL


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_model_of_timm_comes_back_bit_for_bit(tmp_path, variant, scale, pool):
    import timm
    from timm.models import save_for_hf
    from timm.models.vision_transformer import checkpoint_filter_fn

    model = timm_model(variant, scale, pool=pool)
    save_for_hf(model, tmp_path / "theirs", safe_serialization=True)
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


def test_transformers_reads_its_folder(tmp_path, variant):
    from timm.models import save_for_hf
    from transformers import AutoModelForImageClassification

    model = timm_model(variant, "large")
    save_for_hf(model, tmp_path / "theirs", safe_serialization=True)
    export(tmp_path / "out", "hugging_face", imported(tmp_path / "theirs").weights)
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert_close(torch_output(again, photo_views(PIXELS)), torch_output(model, photo_views(PIXELS)))
    assert imported(tmp_path / "out").weights.spec.variant == variant


def test_the_names_of_openai_are_read_as_timm_reads_them(tmp_path, variant):
    """With a tower of texts beside it; the tensors do not tell the activation, so that the model must be named."""
    import torch
    from timm.models.vision_transformer import checkpoint_filter_fn

    model = timm_model(variant, "large", num_classes=SPACE)
    theirs = {
        f"visual.{openai_name(name)}": tensor for name, tensor in model.state_dict().items() if "head" not in name
    }
    theirs["visual.class_embedding"] = theirs["visual.class_embedding"].reshape(WIDTH)
    theirs["visual.positional_embedding"] = theirs["visual.positional_embedding"][0]
    theirs["visual.proj"] = model.head.weight.detach().T
    texts = {"positional_embedding": torch.zeros(7, 4), "text_projection": torch.zeros(4, SPACE),
             "transformer.resblocks.0.ln_1.weight": torch.ones(4), "ln_final.weight": torch.ones(4),
             "token_embedding.weight": torch.zeros(9, 4), "logit_scale": torch.tensor(1.0)}  # fmt: skip
    torch.save(theirs | texts, tmp_path / "open_clip_pytorch_model.bin")
    with torch.no_grad():
        model.head.bias.zero_()
    read = checkpoint_filter_fn(theirs | texts, model)
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())
    source = str(tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"clip_test_quick \(mlp quick_gelu\): --model says which"):
        import_weights(source, variant=None, pool=None, image_size=None, decoder=False)
    result = import_weights(source, variant=variant, pool=None, image_size=None, decoder=False)
    assert result.weights.preprocessing.image_size == PIXELS
    assert any("how images are prepared" in note for note in result.report.notes)
    images = photo_views(PIXELS)
    expected = torch_output(lambda x: model.forward_head(model.forward_features(x), pre_logits=True), images)
    assert_close(our_features(result, images), expected)
    left = {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left == {"visual.proj", *texts}


def openai_name(name: str) -> str:
    for ours, theirs in (
        ("patch_embed.proj", "conv1"), ("cls_token", "class_embedding"), ("pos_embed", "positional_embedding"),
        ("norm_pre", "ln_pre"), ("blocks.", "transformer.resblocks."), ("norm1", "ln_1"), ("norm2", "ln_2"),
        ("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name.replace("norm.", "ln_post.") if name.startswith("norm.") else name


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_timms_head_is_a_projection_where_its_bias_is_zero(tmp_path, variant, bias):
    import torch
    from timm.models import save_for_hf

    model = timm_model(variant, "small", num_classes=SPACE)
    with torch.no_grad():
        model.head.bias.fill_(bias)
    save_for_hf(model, tmp_path, safe_serialization=True)
    result = imported(tmp_path)
    assert result.weights.spec.num_classes == (SPACE if bias else 0)
    left = [row.note for row in result.report.params if row.names == ("head.weight",)]
    assert bias or "projection" in left[0]


def test_photos_are_prepared_as_their_processor_does(tmp_path, variant):
    from transformers import CLIPImageProcessorPil

    model = hugging_face(variant, "large")
    model.save_pretrained(tmp_path)
    crop = {"height": PIXELS, "width": PIXELS}
    CLIPImageProcessorPil(size={"shortest_edge": PIXELS}, crop_size=crop).save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    images, theirs = prepared_photos(result.weights.preprocessing, CLIPImageProcessorPil.from_pretrained(tmp_path))
    np.testing.assert_allclose(images, theirs, atol=1e-5)
    assert_close(our_features(result, images), torch_output(lambda x: model(x).pooler_output, theirs))


def test_another_activation_is_refused_by_name(tmp_path, variant):
    import json

    hugging_face(variant, "small").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_act": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="hidden_act 'relu'"):
        imported(tmp_path)
