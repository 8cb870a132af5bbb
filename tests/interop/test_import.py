"""Weights written by timm, transformers and torch themselves give the same outputs here."""

import argparse
import json
import os
import pathlib

import numpy as np
import pytest
import safetensors

from semivit_jax.models import posemb
from semivit_jax.models.variants import VIT_SIZES
from semivit_jax.weights import import_weights, load_imported
from semivit_jax.weights.command import command
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.report import Status
from tests.interop.conftest import PIXELS, our_features, our_logits, randomised, torch_output

pytestmark = pytest.mark.interop

TOLERANCE = 1e-4
SIZE = VIT_SIZES["vit_test"]
SMALL = {
    "img_size": PIXELS,
    "patch_size": SIZE.patch_size,
    "embed_dim": SIZE.width,
    "depth": SIZE.depth,
    "num_heads": SIZE.num_heads,
    "mlp_ratio": SIZE.mlp_dim // SIZE.width,
}
SMALL_HUGGING_FACE = {
    "hidden_size": SIZE.width,
    "num_hidden_layers": SIZE.depth,
    "num_attention_heads": SIZE.num_heads,
    "intermediate_size": SIZE.mlp_dim,
    "image_size": PIXELS,
    "patch_size": SIZE.patch_size,
    "layer_norm_eps": 1e-6,
}
SMALL_DECODER = {
    "decoder_hidden_size": 64,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 256,
}


def imported(source, variant="vit_test", *, pool=None, image_size=PIXELS, decoder=False):
    return import_weights(str(source), variant=variant, pool=pool, image_size=image_size, decoder=decoder)


def small_timm_vit(**changes):
    import timm.models.vision_transformer as vit

    return randomised(vit.VisionTransformer(**{**SMALL, "num_classes": 5, **changes}))


def names_in(report) -> set[str]:
    return {name for row in report.params for name in row.names}


def names_stored(folder, prefix="vit.") -> set[str]:
    """Names in a Hugging Face folder, without the prefix of the backbone."""
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        return {name.removeprefix(prefix) for name in file.keys()}  # noqa: SIM118  not a mapping


@pytest.mark.parametrize("global_pool", ["avg", "token"])
def test_timm_vit(tmp_path, images, global_pool):
    import safetensors.torch

    model = small_timm_vit(global_pool=global_pool)
    safetensors.torch.save_model(model, tmp_path / "weights.safetensors")
    result = imported(tmp_path / "weights.safetensors")
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == model.state_dict().keys()


def test_timm_hub_folder_brings_its_preprocessing(tmp_path, images):
    import timm
    from timm.models import save_for_hf

    changes = dict(SMALL, num_classes=5)
    model = randomised(timm.create_model("vit_tiny_patch16_224", **changes))
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, PIXELS, PIXELS), "num_classes": 5}
    save_for_hf(model, tmp_path, safe_serialization=True)
    result = imported(tmp_path, image_size=None)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert result.preprocessing.mean == result.preprocessing.std == (0.5, 0.5, 0.5)
    assert (result.preprocessing.crop_fraction, result.preprocessing.image_size) == (0.9, PIXELS)


def test_dinov2_of_timm_with_layer_scale(tmp_path, images):
    import safetensors.torch

    model = small_timm_vit(init_values=1.0, num_classes=0)
    safetensors.torch.save_model(model, tmp_path / "dinov2.safetensors")
    result = imported(tmp_path / "dinov2.safetensors")
    np.testing.assert_allclose(our_features(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == model.state_dict().keys()


@pytest.mark.parametrize("change", [{"reg_tokens": 4}, {"mlp": "swiglu"}])
def test_dinov2_with_registers_or_swiglu_is_refused_by_name(tmp_path, change):
    import safetensors.torch
    from timm.layers import SwiGLUPacked

    options = {"mlp_layer": SwiGLUPacked} if "mlp" in change else change
    safetensors.torch.save_model(small_timm_vit(**options), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="SwiGLU" if "mlp" in change else "register"):
        imported(tmp_path / "x.safetensors")


def test_hugging_face_vit_for_classification(tmp_path, images):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    labels = {0: "cat", 1: "dog", 2: "owl"}
    model = randomised(ViTForImageClassification(ViTConfig(**SMALL_HUGGING_FACE, id2label=labels)))
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": PIXELS, "width": PIXELS}).save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert result.class_names == ("cat", "dog", "owl")
    assert result.preprocessing.mean == (0.5, 0.5, 0.5)
    assert result.preprocessing.image_size == PIXELS
    assert names_in(result.report) == names_stored(tmp_path)


def test_hugging_face_vit_encoder(tmp_path, images):
    from transformers import ViTConfig, ViTModel

    model = randomised(ViTModel(ViTConfig(**SMALL_HUGGING_FACE)))
    model.save_pretrained(tmp_path)
    result = imported(tmp_path)
    ours, theirs = (
        our_features(result, images),
        torch_output(lambda x: model(x).last_hidden_state[:, 0], images),
    )
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert result.facts.num_classes == 0


def test_hugging_face_dinov2(tmp_path, images):
    from transformers import Dinov2Config, Dinov2Model

    sizes = {**SMALL_HUGGING_FACE, "mlp_ratio": SIZE.mlp_dim // SIZE.width}
    model = randomised(Dinov2Model(Dinov2Config(**sizes)))
    model.save_pretrained(tmp_path)
    result = imported(tmp_path)
    ours, theirs = (
        our_features(result, images),
        torch_output(lambda x: model(x).last_hidden_state[:, 0], images),
    )
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


@pytest.mark.parametrize("eps", [1e-12, 1e-1])  # their default, and one that shows in the features
def test_hugging_face_layer_norm_eps_comes_along(tmp_path, images, eps):
    from transformers import ViTConfig, ViTModel

    model = randomised(ViTModel(ViTConfig(**{**SMALL_HUGGING_FACE, "layer_norm_eps": eps})))
    model.save_pretrained(tmp_path)
    result = imported(tmp_path)
    assert result.facts.layer_norm_eps == eps
    theirs = torch_output(lambda x: model(x).last_hidden_state[:, 0], images)
    np.testing.assert_allclose(our_features(result, images), theirs, atol=TOLERANCE)


def test_hugging_face_mae_continues_with_its_decoder(tmp_path, images):
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(**SMALL_HUGGING_FACE, **SMALL_DECODER, mask_ratio=0.75)
    model = randomised(ViTMAEForPreTraining(config))
    with torch.no_grad():  # the published checkpoints hold these tables; a new model starts without
        grid_size = PIXELS // SIZE.patch_size
        for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
            table.copy_(torch.from_numpy(posemb.sincos(table.shape[-1], grid_size)))
    model.save_pretrained(tmp_path)
    noise = np.random.default_rng(1).random((3, 16)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        theirs = model(pixels, noise=torch.from_numpy(noise))
    result = imported(tmp_path, decoder=True)
    ours = result.facts.module(mask_ratio=0.75).apply({"params": result.params}, images, noise)
    np.testing.assert_allclose(ours.pred, theirs.logits, atol=TOLERANCE)
    np.testing.assert_array_equal(ours.patch_mask, theirs.mask)
    assert names_in(result.report) == names_stored(tmp_path)


@pytest.mark.parametrize("name", ["convnext_test"])
def test_timm_convnext(tmp_path, images, name):
    import safetensors.torch
    from timm.models.convnext import ConvNeXt

    model = randomised(ConvNeXt(num_classes=5, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)))
    safetensors.torch.save_model(model, tmp_path / "weights.safetensors")
    result = imported(tmp_path / "weights.safetensors", name)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == model.state_dict().keys()


@pytest.mark.parametrize("eps", [1e-12, 1e-1])  # their default, and one that shows in the logits
def test_hugging_face_convnext_has_a_final_norm_of_its_own(tmp_path, images, eps):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    sizes = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32], "image_size": PIXELS}
    labels = {0: "cat", 1: "dog", 2: "owl"}
    config = ConvNextConfig(**sizes, layer_norm_eps=eps, id2label=labels)
    model = randomised(ConvNextForImageClassification(config))
    model.save_pretrained(tmp_path / "theirs")
    result = imported(tmp_path / "theirs", "convnext_test", image_size=None)
    assert (result.facts.layer_norm_eps, result.class_names) == (eps, ("cat", "dog", "owl"))
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == names_stored(tmp_path / "theirs", prefix="convnext.")


def test_hugging_face_convnext_as_transformers_makes_it(tmp_path, images):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    model = randomised(ConvNextForImageClassification(ConvNextConfig()), std=0.02)
    model.save_pretrained(tmp_path)
    result = imported(tmp_path, "convnext_tiny", image_size=None)
    assert (result.facts.layer_norm_eps, result.preprocessing.image_size) == (1e-12, 224)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)


def test_published_training_checkpoint_brings_weights_and_moving_average(tmp_path, images):
    import torch

    model, ema = small_timm_vit(global_pool="avg"), small_timm_vit(global_pool="avg", num_classes=5)
    with torch.no_grad():
        ema.head.bias.add_(1)
    content = {
        "model": model.state_dict(),
        "model_ema": ema.state_dict(),
        "epoch": 7,
        "args": argparse.Namespace(lr=1e-3, model="vit_base_patch16"),
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    result = imported(tmp_path / "checkpoint.pth")
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert result.ema_params is not None
    np.testing.assert_array_equal(result.ema_params["head"]["bias"], ema.head.bias.detach().numpy())


def test_dino_training_checkpoint_gives_the_teacher(tmp_path, images):
    import torch

    student, teacher = small_timm_vit(num_classes=0), small_timm_vit(num_classes=0)
    with torch.no_grad():
        teacher.norm.bias.add_(1)
    content = {
        "student": {f"module.backbone.{name}": value for name, value in student.state_dict().items()},
        "teacher": {f"backbone.{name}": value for name, value in teacher.state_dict().items()}
        | {"head.mlp.0.weight": torch.zeros(4, SIZE.width)},
    }
    torch.save(content, tmp_path / "dino.pth")
    result = imported(tmp_path / "dino.pth")
    np.testing.assert_allclose(our_features(result, images), torch_output(teacher, images), atol=TOLERANCE)


@pytest.fixture(scope="module")
def published_mae(tmp_path_factory):
    """A file with the names and shapes of the published ViT-B pre-training checkpoint, random values."""
    import torch

    shapes = json.loads((pathlib.Path(__file__).parent / "mae_vit_base_patch16_shapes.json").read_text())
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name in ("pos_embed", "decoder_pos_embed"):
        tensors[name] = torch.from_numpy(posemb.sincos(shapes[name][-1], 14)[None]).float()
    path = tmp_path_factory.mktemp("mae") / "mae_pretrain_vit_base_full.pth"
    torch.save({"model": tensors}, path)
    return path, tensors


def test_published_mae_without_its_decoder(published_mae):
    path, tensors = published_mae
    result = imported(path, "vit_b16", image_size=None)
    assert names_in(result.report) == tensors.keys()
    left_over = [row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER]
    assert all(name.startswith(("decoder_", "mask_token")) for name in left_over)
    np.testing.assert_array_equal(
        result.params["blocks"]["attn"]["qkv"]["kernel"][11], tensors["blocks.11.attn.qkv.weight"].T
    )
    assert result.preprocessing == IMAGENET_224
    assert (result.facts.pool, result.facts.num_classes) == ("cls", 0)


def test_published_mae_for_mean_pooling_gets_a_new_norm_and_keeps_its_table(published_mae):
    path, _ = published_mae
    result = imported(path, "vit_b16", pool="mean", image_size=112)
    fresh = [row.path for row in result.report.params if row.status is Status.REINITIALISED]
    assert fresh == ["fc_norm/bias", "fc_norm/scale", "head/kernel", "head/bias"]
    assert np.all(result.params["fc_norm"]["scale"] == 1)
    (resized,) = [row for row in result.report.params if row.status is Status.RESIZED]
    assert (resized.path, resized.source_shape, resized.shape) == ("posemb", (1, 197, 768), (1, 50, 768))


def test_published_mae_with_its_decoder(published_mae):
    path, tensors = published_mae
    result = imported(path, "vit_b16", image_size=None, decoder=True)
    assert names_in(result.report) == tensors.keys()
    left_over = {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left_over == {"pos_embed", "decoder_pos_embed"}
    decoder = result.params["decoder"]
    np.testing.assert_array_equal(decoder["pred"]["kernel"], tensors["decoder_pred.weight"].T)
    np.testing.assert_array_equal(decoder["mask_token"], tensors["mask_token"])
    sizes = (result.facts.decoder_width, result.facts.decoder_depth, result.facts.decoder_num_heads)
    assert sizes == (512, 8, 16)


class RunsOnLoad:
    """What a malicious pickle looks like: loading it calls a function of the file's choice."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, capsys):
    import torch

    mark = tmp_path / "was_run"
    torch.save({"model": {"x": torch.zeros(1)}, "args": RunsOnLoad(str(mark))}, tmp_path / "bad.pth")
    code = command([str(tmp_path / "bad.pth"), "--model", "vit_test", "--out", str(tmp_path / "out")])
    assert code == 1
    assert "refused, because it holds Python objects" in (said := capsys.readouterr().err)
    assert f"({os.mkdir.__module__}.mkdir)" in said
    assert "weights_only" not in said  # torch's own advice is to let it run
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4 and no more"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_torch_file_is_one_message(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pth: not a PyTorch file, or a damaged one"):
        imported(tmp_path / "x.pth")


def test_half_precision_tensors_are_widened(tmp_path):
    import safetensors.torch

    model = small_timm_vit().bfloat16()
    safetensors.torch.save_model(model, tmp_path / "half.safetensors")
    bias = imported(tmp_path / "half.safetensors").params["head"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, model.head.bias.float().detach().numpy())


def test_command_writes_a_folder_that_loads_again(tmp_path, images, capsys):
    import torch

    model = small_timm_vit()
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    arguments = ["--model", "vit_test", "--image_size", "32", "--out", str(tmp_path / "out")]
    assert command([str(tmp_path / "plain.pth"), *arguments]) == 0
    loaded = load_imported(tmp_path / "out")
    np.testing.assert_allclose(our_logits(loaded, images), torch_output(model, images), atol=TOLERANCE)
    assert "loaded" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "import.json").read_text())["preprocessing"]["image_size"] == PIXELS
