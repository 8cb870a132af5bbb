"""Files as they are published and found: training checkpoints, the full MAE, half precision, damage and malice."""

import argparse
import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest

from semivit_jax.cli.import_weights import import_weights as command
from semivit_jax.models import posemb
from semivit_jax.weights.account import Status
from semivit_jax.weights.folder import load_imported
from semivit_jax.weights.preprocessing import IMAGENET_224
from tests.interop.conftest import PIXELS, our_features, our_logits, randomised, torch_output
from tests.interop.small_models import SIZE, TOLERANCE, imported, names_in, small_timm_vit

pytestmark = pytest.mark.interop


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


@pytest.mark.parametrize(
    "keys", [("student",), ("state_dict", "model"), ("model", "teacher"), ("model", "model", "state_dict")], ids=str
)
@pytest.mark.parametrize("prefix", ["", "module._orig_mod."])
def test_state_dicts_lie_as_deep_as_they_like(tmp_path, images, keys, prefix):
    import torch

    model = small_timm_vit()
    content = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    for key in keys:
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "deep.pth")
    result = imported(tmp_path / "deep.pth")
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)


def test_parts_with_an_index_are_one_state_dict(tmp_path, images):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": SIZE.width, "num_hidden_layers": SIZE.depth, "num_attention_heads": SIZE.num_heads}
    more = {"intermediate_size": SIZE.mlp_dim, "image_size": PIXELS, "patch_size": SIZE.patch_size}
    model = randomised(ViTForImageClassification(ViTConfig(**sizes, **more)))
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        np.testing.assert_allclose(our_logits(imported(source), images), torch_output(model, images), atol=TOLERANCE)


def in_torch_parts(folder, tensors, **last) -> list[str]:
    """Saves a state dict as transformers did before safetensors, in two parts with an index; returns their names.

    `last` goes into the last part, and the index does not say so.
    """
    import torch

    names, half = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)], len(tensors) // 2
    first, second = (dict(list(tensors.items())[part]) for part in (slice(half), slice(half, None)))
    torch.save(first, folder / names[0])
    torch.save(second | last, folder / names[1])
    weight_map = dict.fromkeys(first, names[0]) | dict.fromkeys(second, names[1])
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


def test_torch_parts_with_an_index_are_one_state_dict(tmp_path, images):
    model = small_timm_vit()
    names = in_torch_parts(tmp_path, model.state_dict())
    for source in (tmp_path, tmp_path / "pytorch_model.bin.index.json"):
        np.testing.assert_allclose(our_logits(imported(source), images), torch_output(model, images), atol=TOLERANCE)
    with pytest.raises(ValueError, match="is one part of several; give the folder that holds them all"):
        imported(tmp_path / names[0])


def test_a_tensor_that_a_torch_part_lacks_is_no_tensor_of_the_model(tmp_path):
    import torch

    tensors = small_timm_vit().state_dict()
    names = in_torch_parts(tmp_path, tensors)
    second = torch.load(tmp_path / names[1], weights_only=True)
    torch.save({name: tensor for name, tensor in second.items() if name != "head.bias"}, tmp_path / names[1])
    with pytest.raises(ValueError, match=rf"{names[1]} lacks head\.bias which the index says it holds"):
        imported(tmp_path)


def test_a_tensor_in_two_torch_parts_is_taken_from_the_one_that_the_index_names(tmp_path, images):
    """The copy in the other part, which is opened last, is of another checkpoint."""
    model = small_timm_vit()
    tensors = model.state_dict()
    names = in_torch_parts(tmp_path, tensors, cls_token=-tensors["cls_token"])
    result = imported(tmp_path)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert f"cls_token from {names[0]}, not from {names[1]}" in " ".join(result.report.notes)
    index = tmp_path / "pytorch_model.bin.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    del weight_map["cls_token"]
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match=rf"{names[0]} and {names[1]} hold cls_token both, and no index says which"):
        imported(tmp_path)


def test_a_torch_part_that_runs_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "was_run"
    names = in_torch_parts(tmp_path, small_timm_vit().state_dict(), args=RunsOnLoad(str(mark)))
    with pytest.raises(ValueError, match=rf"{names[1]}: refused, because it holds Python objects"):
        imported(tmp_path)
    assert not mark.exists()


def test_a_torch_part_that_holds_more_than_tensors_is_refused(tmp_path):
    names = in_torch_parts(tmp_path, small_timm_vit().state_dict(), epoch=3)
    with pytest.raises(ValueError, match=rf"{names[1]}: expected a state dict of tensors.*no tensors: epoch"):
        imported(tmp_path)


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
        result.weights.params["blocks"]["attn"]["qkv"]["kernel"][11], tensors["blocks.11.attn.qkv.weight"].T
    )
    assert result.weights.preprocessing == IMAGENET_224
    assert (result.weights.spec.pool, result.weights.spec.num_classes) == ("cls", 0)


def test_published_mae_for_mean_pooling_gets_a_new_norm_and_keeps_its_table(published_mae):
    path, _ = published_mae
    result = imported(path, "vit_b16", pool="mean", image_size=112)
    fresh = [row.path for row in result.report.params if row.status is Status.REINITIALISED]
    assert fresh == ["fc_norm/bias", "fc_norm/scale", "head/kernel", "head/bias"]
    assert np.all(result.weights.params["fc_norm"]["scale"] == 1)
    (resized,) = [row for row in result.report.params if row.status is Status.RESIZED]
    assert (resized.path, resized.source_shape, resized.shape) == ("posemb", (1, 197, 768), (1, 50, 768))


def test_published_mae_with_its_decoder(published_mae):
    path, tensors = published_mae
    result = imported(path, "vit_b16", image_size=None, decoder=True)
    assert names_in(result.report) == tensors.keys()
    left_over = {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left_over == {"pos_embed", "decoder_pos_embed"}
    decoder = result.weights.params["decoder"]
    np.testing.assert_array_equal(decoder["pred"]["kernel"], tensors["decoder_pred.weight"].T)
    np.testing.assert_array_equal(decoder["mask_token"], tensors["mask_token"])
    sizes = dataclasses.astuple(result.weights.spec.decoder)
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
    bias = imported(tmp_path / "half.safetensors").weights.params["head"]["bias"]
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
