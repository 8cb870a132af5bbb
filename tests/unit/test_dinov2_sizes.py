"""What later papers added to the ViT: registers, LayerScale and the gated MLP, and what the stages make of them."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.models import families
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import PLAIN, Decoder
from semivit_jax.models.vit import VIT_SIZES, ViTSize, cost, lr_scales, weight_decays
from semivit_jax.ops.optim import by_path
from semivit_jax.weights import layout
from tests.compiled import quick_jit
from tests.models import spec_of

FULL = ViTSize(8, 48, 2, 3, 128, mlp="swiglu", layer_scale=True, registers=4)


def spec(**changes):
    return dataclasses.replace(spec_of("vit_test2", image_size=16, num_classes=3), size=FULL, **changes)


@pytest.fixture(scope="module")
def network():
    return families.network(spec(), PLAIN, 0.0)


@pytest.fixture(scope="module")
def features(network):
    return quick_jit(network.features)


@pytest.fixture(scope="module")
def params(network):
    """In NumPy."""
    fresh, generator = quick_jit(network.init)(jax.random.key(0, impl="rbg")), np.random.default_rng(1)
    return jax.tree.map(lambda x: x + generator.normal(0, 0.1, x.shape).astype(x.dtype), jax.device_get(fresh))


IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)


def test_a_plain_size_has_no_parameter_more():
    plain = families.shapes(spec_of("vit_test2"))
    assert not [path for path in plain if "ls" in path.split("/") or "register" in path or "gamma" in path]
    more = families.shapes(spec()).keys() - families.shapes(spec_of("vit_test2", image_size=16, num_classes=3)).keys()
    assert more == {"register_tokens", "blocks/ls1/gamma", "blocks/ls2/gamma"}


def test_registers_have_a_say_and_no_part_in_the_mean(features, params):
    found = features(params, IMAGES)
    other = features(params | {"register_tokens": params["register_tokens"][..., ::-1]}, IMAGES)
    assert np.abs(np.asarray(found) - other).max() > 1e-3
    still = jax.tree.map(lambda gamma: 0 * gamma, {name: params["blocks"][name] for name in ("ls1", "ls2")})
    alone = params | {"blocks": params["blocks"] | still}  # no branch adds anything: tokens stay what they were
    moved = alone | {"register_tokens": params["register_tokens"][..., ::-1]}
    np.testing.assert_array_equal(features(alone, IMAGES), features(moved, IMAGES))


def test_the_gate_is_the_first_half(features, params):
    """A gate of zeros closes the MLP: what its bias adds is all that is left of it."""
    blocks = params["blocks"]
    fc1, half = blocks["mlp"]["fc1"], FULL.mlp_dim
    closed = {name: leaf.copy() for name, leaf in fc1.items()}
    for leaf in closed.values():
        leaf[..., :half] = 0
    fc2 = {"kernel": 0 * blocks["mlp"]["fc2"]["kernel"], "bias": blocks["mlp"]["fc2"]["bias"]}
    by_gate, by_last = (
        features(params | {"blocks": blocks | {"mlp": mlp}}, IMAGES)
        for mlp in (blocks["mlp"] | {"fc1": closed}, blocks["mlp"] | {"fc2": fc2})
    )
    np.testing.assert_allclose(by_gate, by_last, atol=1e-6)


def test_every_parameter_has_its_learning_rate_and_decay(params):
    scales = layout.flatten(by_path(lr_scales(FULL, 0.5, 1.0), params))
    for path, decay in layout.flatten(by_path(weight_decays(0.05), params)).items():
        assert (np.max(decay) > 0) == path.endswith("/kernel"), path
    np.testing.assert_array_equal(scales["register_tokens"], scales["cls_token"])
    np.testing.assert_array_equal(np.ravel(scales["blocks/ls1/gamma"]), np.ravel(scales["blocks/norm1/scale"]))


def test_cost_counts_registers_and_the_third_product():
    plain = spec_of("vit_test2", image_size=16, num_classes=3)
    gated, as_wide = spec(), dataclasses.replace(plain, size=dataclasses.replace(plain.size, mlp_dim=192))
    (passed,) = cost(gated, 0.0).stacks
    assert passed.tokens == 4 + 1 + 4
    assert passed.mlp_dim == 192  # 3 x 128 products are 2 x 192
    assert cost(dataclasses.replace(gated, size=dataclasses.replace(FULL, registers=0)), 0.0) == cost(as_wide, 0.0)


def test_no_masked_autoencoder_has_them():
    with pytest.raises(ConfigError, match=r"'dinov2_s14', whose registers, LayerScale or SwiGLU no masked autoencoder"):
        families.shapes(with_decoder(spec_of("dinov2_s14", image_size=28), Decoder(32, 1, 2)))


def test_people_are_told():
    told = families.told(spec_of("dinov2_g14_reg4", image_size=98, pool="cls"))
    assert "patches of 14, 4 registers, LayerScale, SwiGLU, learned position embedding, pool cls" in told


def test_the_sizes_of_dinov2():
    specs = {v: spec_of(v, image_size=518, pool="cls", num_classes=0) for v in VIT_SIZES if v.startswith("dinov2")}
    counted = {v: sum(map(math.prod, families.shapes(s).values())) for v, s in specs.items()}
    # The published checkpoints hold a mask token besides (one width): 22,056,576 of the smallest are all.
    assert counted["dinov2_s14"] == 22_056_576 - 384
    assert round(counted["dinov2_b14"] / 1e6, 1) == 86.6
    assert round(counted["dinov2_l14"] / 1e6, 1) == 304.4
    assert round(counted["dinov2_g14"] / 1e6, 1) == 1136.5
    assert all(counted[f"{v}_reg4"] == n + 4 * VIT_SIZES[v].width for v, n in counted.items() if not v.endswith("reg4"))
