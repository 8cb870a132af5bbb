"""CLIP's and SigLIP's image towers: their parts, their parameters, and the names of two libraries."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.config import ConfigError
from semivit_jax.models import families, posemb
from semivit_jax.models.layers import gelu_tanh, quick_gelu
from semivit_jax.models.spec import PLAIN
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout
from semivit_jax.weights.account import Status
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.vit_tower_names import CLIP_TIMM, SIGLIP_TIMM
from tests import towers
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import spec_of

TIMM = {
    "clip": (CLIP_TIMM, "vit_base_patch16_clip_quickgelu_224"),
    "siglip": (SIGLIP_TIMM, "vit_giantopt_patch16_siglip"),
}
TIMMS_WORDS = {"clip": "timm and OpenCLIP", "siglip": "timm"}


@pytest.fixture(params=towers.SIZES)
def spec(request, monkeypatch):
    sizes, size, pool = towers.SIZES[request.param]
    monkeypatch.setitem(sizes, towers.VARIANT, size)
    eps = 1e-5 if request.param == "clip" else 1e-6
    return spec_of(towers.VARIANT, image_size=16, pool=pool, num_classes=3, layer_norm_eps=eps)


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
    family, params = families.of(towers.VARIANT), layout.unflatten(towers.arrays(spec))
    scales = layout.flatten(by_path(family.lr_scales(spec.size, 0.5, 1.0), params))
    for path in scales.keys() & {"patch_embed/kernel", "posemb", "norm_pre/scale"}:
        assert scales[path] == 0.5**3, path
    for path in scales.keys() & {"norm/scale", "attn_pool/query/kernel", "head/kernel"}:
        assert scales[path] == 1.0, path
    for path, decay in layout.flatten(by_path(family.weight_decays(0.05), params)).items():
        assert (decay > 0) == path.endswith("/kernel"), path
    assert ("patch_embed/bias" in layout.flatten(params)) == (spec.family == "siglip")


def test_timms_names_are_read(tmp_path, spec):
    ours, (names, architecture) = towers.arrays(spec), TIMM[spec.family]
    config = {
        "architecture": architecture,
        "global_pool": "token" if spec.pool == "cls" else "map",
        "pretrained_cfg": {},
    }
    result = imported(tmp_path, layout.state_dict(ours, names), config)
    assert (result.weights.spec.variant, result.pool, result.weights.spec.image_size) == (towers.VARIANT, spec.pool, 16)
    for path, array in layout.flatten(result.weights.params).items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


def test_transformers_names_are_read_and_its_pooling_is_taken_apart(tmp_path, spec):
    """Query, key and value of SigLIP's pooling are one tensor there."""
    headless = dataclasses.replace(spec, num_classes=0)
    ours = towers.arrays(headless)
    towers.write_hugging_face(tmp_path, headless, ours)
    result = import_weights(str(tmp_path), variant=None, pool=None, image_size=None, decoder=False)
    assert (result.weights.spec.variant, result.pool) == (towers.VARIANT, spec.pool)
    for path, array in layout.flatten(result.weights.params).items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


def test_without_a_word_images_are_prepared_as_the_authors_do(tmp_path, spec):
    headless = dataclasses.replace(spec, num_classes=0)
    towers.write_hugging_face(tmp_path, headless, towers.arrays(headless))
    by_transformers = import_weights(str(tmp_path), variant=None, pool=None, image_size=None, decoder=False)
    names = TIMM[spec.family][0]
    tensors = {name: np.ascontiguousarray(t) for name, t in layout.state_dict(towers.arrays(headless), names).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "bare.safetensors")
    if spec.family == "clip":  # of the other, a bare file does not tell its activation: timm's is not the one here
        bare = import_weights(
            str(tmp_path / "bare.safetensors"), variant=towers.VARIANT, pool=None, image_size=None, decoder=False
        )
        assert bare.weights.preprocessing == by_transformers.weights.preprocessing
    view = by_transformers.weights.preprocessing
    mean = {"clip": (0.48145466, 0.4578275, 0.40821073), "siglip": (0.5, 0.5, 0.5)}[spec.family]
    assert (view.mean, view.crop_fraction, view.image_size) == (mean, 1.0, 16)
    assert any("assumed is what" in note for note in by_transformers.report.notes)
    assert not any("ImageNet" in note for note in by_transformers.report.notes)


def test_weights_of_transformers_without_their_config_are_told_by_their_names(tmp_path, spec):
    headless = dataclasses.replace(spec, num_classes=0)
    towers.write_hugging_face(tmp_path, headless, towers.arrays(headless))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"Hugging Face weights without their config\.json"):
        import_weights(str(tmp_path), variant=None, pool=None, image_size=None, decoder=False)


@pytest.mark.parametrize("spec", ["clip"], indirect=True)
def test_texts_and_projections_are_left_over(tmp_path, spec):
    headless = dataclasses.replace(spec, num_classes=0)
    more = {"visual_projection.weight": np.ones((5, 48)), "text_model.final_layer_norm.weight": np.ones(4),
            "logit_scale": np.ones(())}  # fmt: skip
    towers.write_hugging_face(tmp_path, headless, towers.arrays(headless), **more)
    result = import_weights(str(tmp_path), variant=None, pool=None, image_size=None, decoder=False)
    assert result.weights.spec.num_classes == 0
    assert {row.names[0] for row in result.report.params if row.status is Status.LEFT_OVER} == more.keys()


@pytest.mark.parametrize("spec", ["clip"], indirect=True)
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_timms_head_is_a_projection_where_its_bias_is_zero(tmp_path, spec, bias):
    """A classifier has learned one."""
    ours = towers.arrays(spec) | {"head/bias": np.full(3, bias, np.float32)}
    config = {"architecture": TIMM["clip"][1], "pretrained_cfg": {}}
    result = imported(tmp_path, layout.state_dict(ours, CLIP_TIMM), config)
    assert result.weights.spec.num_classes == (3 if bias else 0)


@pytest.mark.parametrize("rule", ["plain", "antialiased"])
def test_tables_are_resized_as_their_library_does(tmp_path, spec, rule):
    headless = dataclasses.replace(spec, num_classes=0)
    ours = towers.arrays(headless)
    if rule == "plain":
        towers.write_hugging_face(tmp_path, headless, ours)
    else:
        names, architecture = TIMM[spec.family]
        imported(tmp_path, layout.state_dict(ours, names), {"architecture": architecture, "pretrained_cfg": {}})
    result = import_weights(str(tmp_path), variant=None, pool=None, image_size=24, decoder=False)
    (row,) = [row for row in result.report.params if row.status is Status.RESIZED]
    assert row.note == f"resized as {'transformers' if rule == 'plain' else TIMMS_WORDS[spec.family]} does ({rule})"
    expected = posemb.resize(jnp.asarray(ours["posemb"]), 3, rule, class_rows=int(spec.family == "clip"))
    np.testing.assert_array_equal(result.weights.params["posemb"], expected)


def test_names_tell_the_activation():
    for name, size in towers.SIZES["clip"][0].items():
        assert size.mlp == ("quick_gelu" if name.endswith(("_quick", towers.VARIANT)) else "gelu"), name
    for name, size in towers.SIZES["siglip"][0].items():
        assert size.mlp == ("gelu" if name.endswith("_erf") else "gelu_tanh"), name


def test_a_config_names_a_tower_and_its_pool():
    config = small_config(**{"model.variant": "siglip_b16", "model.pool": "map", "data.image_size": 32})
    spec = families.describe(config.model, image_size=32, num_classes=3)
    assert (spec.family, spec.pool, spec.posemb) == ("siglip", "map", "learned")
    with pytest.raises(ConfigError, match="pool is 'cls'; legal values of siglip_b16: map, mean"):
        small_config(**{"model.variant": "siglip_b16", "model.pool": "cls", "data.image_size": 32})
    with pytest.raises(ConfigError, match="pool is 'map'; legal values of clip_b32: cls, mean"):
        small_config(**{"model.variant": "clip_b32", "model.pool": "map", "data.image_size": 32})


def test_gradients_reach_every_parameter(spec):
    network, params = families.network(spec, PLAIN, 0.0), layout.unflatten(towers.arrays(spec))
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
