"""Weights written by timm, transformers and torch themselves give the same outputs here."""

import numpy as np
import pytest
import safetensors

from semivit_jax.models import families, posemb
from semivit_jax.models.spec import PLAIN
from tests.interop.conftest import PIXELS, our_features, our_logits, randomised, torch_output
from tests.interop.small_models import SIZE, SMALL, TOLERANCE, imported, names_in, small_timm_vit

pytestmark = pytest.mark.interop

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
    assert result.weights.preprocessing.mean == result.weights.preprocessing.std == (0.5, 0.5, 0.5)
    assert (result.weights.preprocessing.crop_fraction, result.weights.preprocessing.image_size) == (0.9, PIXELS)


def test_dinov2_of_timm_with_layer_scale(tmp_path, images):
    import safetensors.torch

    model = small_timm_vit(init_values=1.0, num_classes=0)
    safetensors.torch.save_model(model, tmp_path / "dinov2.safetensors")
    result = imported(tmp_path / "dinov2.safetensors")
    np.testing.assert_allclose(our_features(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == model.state_dict().keys()


def test_a_gated_mlp_without_the_marks_of_dinov2_is_refused_by_name(tmp_path):
    import safetensors.torch
    from timm.layers import SwiGLUPacked

    safetensors.torch.save_model(small_timm_vit(mlp_layer=SwiGLUPacked), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="only the SwiGLU of DINOv2"):
        imported(tmp_path / "x.safetensors")


def test_hugging_face_vit_for_classification(tmp_path, images):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    labels = {0: "cat", 1: "dog", 2: "owl"}
    model = randomised(ViTForImageClassification(ViTConfig(**SMALL_HUGGING_FACE, id2label=labels)))
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": PIXELS, "width": PIXELS}).save_pretrained(tmp_path)
    result = imported(tmp_path, image_size=None)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert result.weights.class_names == ("cat", "dog", "owl")
    assert result.weights.preprocessing.mean == (0.5, 0.5, 0.5)
    assert result.weights.preprocessing.image_size == PIXELS
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
    assert result.weights.spec.num_classes == 0


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
    assert result.weights.spec.layer_norm_eps == eps
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
    ours = families.autoencoder(result.weights.spec, PLAIN, 0.75).apply(result.weights.params, images, noise)
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
    assert (result.weights.spec.layer_norm_eps, result.weights.class_names) == (eps, ("cat", "dog", "owl"))
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
    assert names_in(result.report) == names_stored(tmp_path / "theirs", prefix="convnext.")


def test_hugging_face_convnext_as_transformers_makes_it(tmp_path, images):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    model = randomised(ConvNextForImageClassification(ConvNextConfig()), std=0.02)
    model.save_pretrained(tmp_path)
    result = imported(tmp_path, "convnext_tiny", image_size=None)
    assert (result.weights.spec.layer_norm_eps, result.weights.preprocessing.image_size) == (1e-12, 224)
    np.testing.assert_allclose(our_logits(result, images), torch_output(model, images), atol=TOLERANCE)
