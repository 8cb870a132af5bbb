"""CLIP's and SigLIP's image towers: their parts, their parameters, and the names of two libraries."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.config import ConfigError
from semivit_jax.models import families
from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.models.layers import gelu_tanh, quick_gelu
from semivit_jax.models.siglip import SIGLIP_SIZES
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import ViTSize
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.vit_tower_names import CLIP_HUGGING_FACE, CLIP_TIMM, JOINED, SIGLIP_HUGGING_FACE, SIGLIP_TIMM
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import spec_of

SIZES = {"clip": (CLIP_SIZES, "quick_gelu", "cls"), "siglip": (SIGLIP_SIZES, "gelu_tanh", "map")}
TIMM = {
    "clip": (CLIP_TIMM, "vit_base_patch16_clip_quickgelu_224"),
    "siglip": (SIGLIP_TIMM, "vit_giantopt_patch16_siglip"),
}


@pytest.fixture(params=SIZES)
def spec(request, monkeypatch):
    sizes, mlp, pool = SIZES[request.param]
    monkeypatch.setitem(sizes, "tower_test", ViTSize(8, 48, 2, 3, 96, mlp=mlp))
    eps = 1e-5 if request.param == "clip" else 1e-6
    return spec_of("tower_test", image_size=16, pool=pool, num_classes=3, layer_norm_eps=eps)


def arrays(spec) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {path: generator.standard_normal(shape).astype(np.float32) for path, shape in families.shapes(spec).items()}


def imported(folder, tensors, config):
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return import_weights(str(folder), variant=None, pool=None, image_size=None, decoder=False)


def test_what_is_published_has_these_sizes():
    """Of the image towers alone, SigLIP's with attention pooling; in millions, as timm counts them without a head."""
    found = {}
    for variant, pool in (("clip_b32", "cls"), ("clip_l14", "cls"), ("siglip_b16", "map"), ("siglip_so400m14", "map")):
        shapes = families.shapes(spec_of(variant, image_size=224, num_classes=0, pool=pool))
        found[variant] = round(sum(np.prod(shape) for shape in shapes.values()) / 1e6)
    assert found == {"clip_b32": 87, "clip_l14": 303, "siglip_b16": 93, "siglip_so400m14": 428}


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_activations_are_what_their_names_say(dtype):
    x = jnp.linspace(-6, 6, 25, dtype=jnp.float32)
    expected = x / (1 + np.exp(-1.702 * np.asarray(x)))
    np.testing.assert_allclose(quick_gelu(x, dtype), expected, rtol=1e-5, atol=1e-6)
    tanh = np.tanh(np.sqrt(2 / np.pi) * (np.asarray(x) + 0.044715 * np.asarray(x) ** 3))
    np.testing.assert_allclose(gelu_tanh(x, dtype), x / 2 * (1 + tanh), rtol=1e-5, atol=1e-6)


def test_every_parameter_has_its_learning_rate_and_decay(spec):
    family, params = families.of("tower_test"), layout.unflatten(arrays(spec))
    scales = layout.flatten(by_path(family.lr_scales(spec.size, 0.5, 1.0), params))
    for path in scales.keys() & {"patch_embed/kernel", "posemb", "norm_pre/scale"}:
        assert scales[path] == 0.5**3, path
    for path in scales.keys() & {"norm/scale", "attn_pool/query/kernel", "head/kernel"}:
        assert scales[path] == 1.0, path
    for path, decay in layout.flatten(by_path(family.weight_decays(0.05), params)).items():
        assert (decay > 0) == path.endswith("/kernel"), path
    assert ("patch_embed/bias" in layout.flatten(params)) == (spec.family == "siglip")


def test_timms_names_are_read(tmp_path, spec):
    ours, (names, architecture) = arrays(spec), TIMM[spec.family]
    config = {
        "architecture": architecture,
        "global_pool": "token" if spec.pool == "cls" else "map",
        "pretrained_cfg": {},
    }
    result = imported(tmp_path, layout.state_dict(ours, names), config)
    assert (result.weights.spec.variant, result.pool, result.weights.spec.image_size) == ("tower_test", spec.pool, 16)
    for path, array in layout.flatten(result.weights.params).items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


def test_transformers_pooling_is_taken_apart(tmp_path, monkeypatch):
    """Query, key and value of SigLIP's pooling are one tensor there."""
    monkeypatch.setitem(SIGLIP_SIZES, "tower_test", ViTSize(8, 48, 2, 3, 96, mlp="gelu_tanh"))
    ours = arrays(spec_of("tower_test", image_size=16, pool="map", num_classes=0))
    tensors = layout.state_dict(ours, SIGLIP_HUGGING_FACE)
    for leaf in ("weight", "bias"):
        parts = [tensors.pop(f"{JOINED}({part}).{leaf}") for part in ("query", "key, value")]
        tensors[f"{JOINED}_{leaf}"] = np.concatenate(parts)
    tensors["embeddings.position_embedding.weight"] = tensors["embeddings.position_embedding.weight"][0]
    config = {"model_type": "siglip", "vision_config": {"num_attention_heads": 3, "image_size": 16}}
    result = imported(tmp_path, {f"vision_model.{name}": tensor for name, tensor in tensors.items()}, config)
    for path, array in layout.flatten(result.weights.params).items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


def test_texts_and_projections_are_left_over(tmp_path, monkeypatch):
    monkeypatch.setitem(CLIP_SIZES, "tower_test", ViTSize(8, 48, 2, 3, 96, mlp="quick_gelu"))
    ours = arrays(spec_of("tower_test", image_size=16, pool="cls", num_classes=0))
    tensors = {f"vision_model.{name}": tensor for name, tensor in layout.state_dict(ours, CLIP_HUGGING_FACE).items()}
    more = {"visual_projection.weight": np.ones((5, 48)), "text_model.final_layer_norm.weight": np.ones(4),
            "logit_scale": np.ones(())}  # fmt: skip
    config = {"model_type": "clip", "vision_config": {"num_attention_heads": 3, "image_size": 16}}
    result = imported(tmp_path, {**tensors, **{n: t.astype(np.float32) for n, t in more.items()}}, config)
    assert result.weights.spec.num_classes == 0
    assert {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER} == more.keys()


def test_a_config_names_a_tower_and_its_pool():
    config = small_config(**{"model.variant": "siglip_b16", "model.pool": "map", "data.image_size": 32})
    spec = families.describe(config.model, image_size=32, num_classes=3)
    assert (spec.family, spec.pool, spec.posemb) == ("siglip", "map", "learned")
    with pytest.raises(ConfigError, match="pool is 'cls'; legal values of siglip_b16: map, mean"):
        small_config(**{"model.variant": "siglip_b16", "model.pool": "cls", "data.image_size": 32})
    with pytest.raises(ConfigError, match="pool is 'map'; legal values of clip_b32: cls, mean"):
        small_config(**{"model.variant": "clip_b32", "model.pool": "map", "data.image_size": 32})


def test_gradients_reach_every_parameter(spec):
    network, params = families.network(spec, PLAIN, 0.0), layout.unflatten(arrays(spec))
    images = jnp.asarray(np.random.default_rng(1).standard_normal((1, 16, 16, 3)), jnp.float32)
    grads = quick_jit(jax.grad(lambda p: network.logits(p, images, None).sum()))(params)
    for path, gradient in layout.flatten(grads).items():
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_flops_are_those_of_their_products(spec):
    """The blocks by the rule that all ViTs share; attention pooling by its own products."""
    tokens, width, hidden = 4 + (spec.family == "clip"), 48, 96
    block = 2 * tokens * width * (3 * width + width + 2 * hidden) + 2 * 2 * tokens * tokens * width
    pooling = 2 * (width * 2 * width + tokens * width * 2 * width + 2 * tokens * width + 2 * width * hidden)
    expected = 2 * 4 * 192 * width + 2 * block + 2 * width * 3 + (pooling if spec.pool == "map" else 0)
    assert families.cost(spec).flops.forward == expected
