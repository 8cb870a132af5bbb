"""Checkpoints as training leaves them: Lightning, DINOv2's own, an average alone; and Google's .npz beside timm."""

import numpy as np
import pytest

from semivit_jax.models import families
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from tests import state_dicts
from tests.interop.conftest import our_features, our_logits, torch_output
from tests.interop.small_models import SIZE, TOLERANCE, imported, small_timm_vit

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("name", ["epoch=3-step=40.ckpt", "last.pth.tar"])
def test_a_lightning_checkpoint(tmp_path, images, name):
    import torch

    model = small_timm_vit()
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": {"lr": 1e-3},
    }
    torch.save(content, tmp_path / name)
    result = imported(tmp_path / name)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)


@pytest.mark.parametrize("chunks", [0, 2])
def test_dinov2_training_gives_the_teacher_without_its_heads(tmp_path, images, chunks):
    import torch

    model = small_timm_vit(init_values=1.0, num_classes=0)
    backbone = {"backbone.mask_token": torch.zeros(1, SIZE.width)}
    for name, value in model.state_dict().items():
        if chunks and name.startswith("blocks."):
            number = int(name.split(".")[1])
            name = name.replace("blocks.", f"blocks.{number // chunks}.", 1)
        backbone[f"backbone.{name}"] = value
    heads = {f"{head}.mlp.0.weight": torch.zeros(8, SIZE.width) for head in ("dino_head", "ibot_head")}
    torch.save({"teacher": {**backbone, **heads}, "iteration": 7}, tmp_path / "teacher_checkpoint.pth")
    result = imported(tmp_path / "teacher_checkpoint.pth")
    np.testing.assert_allclose(our_features(result, images), torch_output(model, images), atol=TOLERANCE)
    left_over = {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER}
    assert left_over == {*heads, "mask_token"}


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema", "ema_state_dict"])
def test_an_average_alone_is_taken_as_the_weights_and_told(tmp_path, images, key):
    import torch

    model = small_timm_vit()
    average = {"n_averaged": torch.tensor(9)} | {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({key: average, "epoch": 3}, tmp_path / "ema.pth")
    result = imported(tmp_path / "ema.pth")
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert result.ema_params is None
    assert "a moving average alone" in result.report.notes[0]


def test_numbers_that_torch_files_may_hold(tmp_path):
    import torch

    state = small_timm_vit().state_dict()
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        torch.save({name: value.to(dtype) for name, value in state.items()}, tmp_path / "x.pth")
        found = imported(tmp_path / "x.pth").weights.params["head"]["bias"]
        np.testing.assert_array_equal(found, state["head.bias"].to(dtype).float().numpy())
    torch.save(state | {"head.bias": torch.zeros(5, dtype=torch.int8)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"head\.bias holds int8: only float32"):
        imported(tmp_path / "x.pth")
    torch.save(state | {"head.bias": torch.full((5,), torch.nan)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"head\.bias: holds nan"):
        imported(tmp_path / "x.pth")


def test_deit_iii_adds_its_embedding_before_the_class_token(tmp_path, images):
    import safetensors.torch

    model = small_timm_vit(no_embed_class=True)
    safetensors.torch.save_model(model, tmp_path / "weights.safetensors")
    result = imported(tmp_path / "weights.safetensors")
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)


def test_a_vit_of_timm_without_a_class_token_is_refused(tmp_path):
    import safetensors.torch

    model = small_timm_vit(class_token=False, global_pool="avg")
    safetensors.torch.save_model(model, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"no class token \(cls_token\)"):
        imported(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("names", ["augreg", "big_vision"])
def test_google_npz_is_what_timm_reads_in_it(tmp_path, images, names):
    ours = state_dicts.arrays()
    np.savez(tmp_path / "weights.npz", **state_dicts.google(ours, names=names))
    model = small_timm_vit(no_embed_class=names == "big_vision")
    model.load_pretrained(tmp_path / "weights.npz")
    result = import_weights(
        str(tmp_path / "weights.npz"), variant="vit_test", pool=None, image_size=None, decoder=False
    )
    assert families.shapes(result.weights.spec).keys() == ours.keys()
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=5 * TOLERANCE)
