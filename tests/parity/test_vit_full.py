"""Published model sizes: parameter shapes of every variant, and logits from formula weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import autoencoder_of, network_of
from tests.parity import recorded

# Recorded key -> (variant, pool, position embedding)
CLASSIFIERS = {
    "vit_small_patch16_gap": ("vit_s16", "mean", "learned"),
    "vit_small_patch16_cls": ("vit_s16", "cls", "learned"),
    "vit_base_patch16_gap": ("vit_b16", "mean", "learned"),
    "vit_base_patch16_cls": ("vit_b16", "cls", "learned"),
    "vit_base_patch16_gap_fixedpos": ("vit_b16", "mean", "sincos"),
    "vit_large_patch16_gap": ("vit_l16", "mean", "learned"),
    "vit_large_patch16_cls": ("vit_l16", "cls", "learned"),
    "vit_huge_patch14_gap": ("vit_h14", "mean", "learned"),
    "vit_huge_patch14_cls": ("vit_h14", "cls", "learned"),
    "vit_huge_patch16_gap": ("vit_h16", "mean", "learned"),
}
AUTOENCODERS = {
    "mae_vit_base_patch16": "vit_b16",
    "mae_vit_large_patch16": "vit_l16",
    "mae_vit_huge_patch14": "vit_h14",
}


def full_classifier(key):
    variant, pool, position = CLASSIFIERS[key]
    config = small_config(**{"model.variant": variant, "model.pool": pool, "model.posemb": position})
    return network_of(config, image_size=224, num_classes=1000)


def described(model):
    return jax.eval_shape(model.init, jax.random.key(0))


def recorded_shapes(params):
    """{recorded name: recorded shape} of our tree, blocks stacked: '{i}' stands for the block's number."""
    shapes = {}
    for path, leaf in recorded.flat(params).items():
        name, shape = recorded.recorded_name(path), leaf.shape
        if "{i}" in name:
            shape = shape[1:]
        if len(shape) in (2, 4):  # ours end with (in, out)
            shape = recorded.to_recorded(np.broadcast_to(0, shape)).shape
        shapes[name] = list(shape)
    return shapes


def count(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("key", CLASSIFIERS)
def test_classifier_has_the_recorded_parameters(key):
    want, params = recorded.load_json("full_shapes")[key], described(full_classifier(key))
    frozen = {name: want["shapes"][name] for name in want["frozen"]}
    assert recorded_shapes(params) | frozen == want["shapes"]
    assert not recorded_shapes(params).keys() & frozen.keys()
    assert params["blocks"]["mlp"]["fc1"]["bias"].shape[0] == want["depth"]["blocks"]
    assert count(params) == want["trainable"]
    assert count(params) + sum(math.prod(shape) for shape in frozen.values()) == want["total"]


@pytest.mark.parametrize("key", AUTOENCODERS)
def test_autoencoder_has_the_recorded_parameters(key):
    want = recorded.load_json("full_shapes")[key]
    decoder = {"mae.decoder_width": 512, "mae.decoder_depth": 8, "mae.decoder_num_heads": 16}
    config = small_config(**{"model.variant": AUTOENCODERS[key], "data.image_size": 224, **decoder})
    params = described(autoencoder_of(config))
    frozen = {name: want["shapes"][name] for name in want["frozen"]}
    assert recorded_shapes(params) | frozen == want["shapes"]
    depth = {"blocks": params["encoder"], "decoder_blocks": params["decoder"]}
    assert {k: v["blocks"]["norm1"]["scale"].shape[0] for k, v in depth.items()} == want["depth"]
    assert count(params) == want["trainable"]
    assert count(params["encoder"]) + math.prod(frozen["pos_embed"]) == want["encoder_total"]


def formula_images(num, offset):
    b = np.arange(1, num + 1)[:, None, None, None]
    i, j, c = np.arange(224)[:, None, None], np.arange(224)[:, None], np.arange(3)
    x = np.sin(0.05 * b * i + 0.03 * (c + 1) * j + 0.5 * c + offset) + 0.5 * np.cos(0.11 * (i - j) / b + offset)
    return x.astype(np.float32)


def formula_params(params):
    """Formula weights straight into a tree like `params`, one array at a time to keep memory low."""

    def weight(name, shape):
        gain = name.endswith("weight") and "norm" in name
        return recorded.to_ours(recorded.formula(name, shape, gain))

    leaves, shapes = {}, recorded_shapes(params)
    for path, leaf in recorded.flat(params).items():
        name = recorded.recorded_name(path)
        if "{i}" in name:
            leaves[path] = np.empty(leaf.shape, np.float32)
            for i in range(leaf.shape[0]):
                leaves[path][i] = weight(name.format(i=i), shapes[name])
        else:
            leaves[path] = weight(name, shapes[name])
    return recorded.nested(leaves)


@pytest.mark.parametrize(
    "key",
    [
        "vit_small_patch16_gap",
        pytest.param("vit_base_patch16_gap", marks=pytest.mark.slow),  # by default test_vit has both pools
        pytest.param("vit_base_patch16_cls", marks=pytest.mark.slow),
        pytest.param("vit_large_patch16_gap", marks=pytest.mark.slow),
        pytest.param("vit_huge_patch14_gap", marks=pytest.mark.slow),
        pytest.param("vit_huge_patch14_cls", marks=pytest.mark.slow),
    ],
)
def test_logits_and_features(key):
    data, model = recorded.load("vit_full"), full_classifier(key)
    params = formula_params(described(model))
    images = jnp.asarray(formula_images(2, float(data["image_offset"])))

    @quick_jit
    def run(params):
        return model.logits(params, images, None), model.features(params, images)

    logits, features = run(params)
    np.testing.assert_allclose(logits, data[f"{key}_logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(features, data[f"{key}_features"], rtol=0, atol=2e-5)
