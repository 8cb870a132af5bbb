"""DINOv3's ConvNeXts, as transformers and timm compute them, and out again."""

import json

import numpy as np
import pytest

from semivit_jax.export import export
from semivit_jax.models.convnext import CONVNEXT_SIZES
from tests.interop.conftest import our_features, photo_views, randomised, torch_output
from tests.interop.test_dinov2 import assert_close, imported

pytestmark = pytest.mark.interop

SIZE = CONVNEXT_SIZES["convnext_test"]
IMAGE_SIZES = (64, 96)


def enlarged(model, scale: str):
    """With factors of branches as large as those of trained networks; at the start they are 1e-6."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.copy_((8.0 if scale == "large" else 0.5) * torch.rand(parameter.shape))
    return model


@pytest.fixture(params=["small", "large"])
def scale(request) -> str:
    return request.param


def hugging_face(scale: str):
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    config = DINOv3ConvNextConfig(hidden_sizes=list(SIZE.widths), depths=list(SIZE.depths))
    return enlarged(randomised(DINOv3ConvNextModel(config)), scale)


def test_features_are_those_of_transformers(tmp_path, scale):
    model = hugging_face(scale)
    model.save_pretrained(tmp_path)
    for image_size in IMAGE_SIZES:
        result, images = imported(tmp_path, image_size=image_size), photo_views(image_size)
        assert (result.weights.spec.variant, result.weights.spec.num_classes) == ("convnext_test", 0)
        assert_close(our_features(result, images), torch_output(lambda x: model(x).pooler_output, images))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_names_with_and_without_their_encoder_are_read(tmp_path, prefix):
    """Published files and those that this version of transformers writes."""
    import safetensors.torch

    model = hugging_face("small")
    model.save_pretrained(tmp_path)
    tensors = {
        name if name.startswith("layer_norm") else prefix + name.removeprefix("model."): tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    images = photo_views(64)
    expected = torch_output(lambda x: model(x).pooler_output, images)
    assert_close(our_features(imported(tmp_path, image_size=64), images), expected)


def test_a_model_of_timm_comes_back_bit_for_bit(tmp_path, scale):
    import timm
    from timm.models import save_for_hf

    sizes = {"depths": list(SIZE.depths), "dims": list(SIZE.widths)}
    model = enlarged(randomised(timm.create_model("convnext_tiny", num_classes=5, **sizes)), scale)
    save_for_hf(model, tmp_path / "theirs", model_args=sizes, safe_serialization=True)
    result, images = imported(tmp_path / "theirs", image_size=64), photo_views(64)
    export(tmp_path / "out", "timm", result.weights)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    np.testing.assert_array_equal(torch_output(again, images), torch_output(model, images))


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-3)])
def test_another_computation_is_refused_by_name(tmp_path, key, value):
    hugging_face("small").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{key} "):
        imported(tmp_path, image_size=64)
