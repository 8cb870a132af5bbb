"""Initial parameters against recorded statistics of the published initialisers, and drop-path rates.

Depth is cut to two blocks: layers are initialised alike, and independently of each other.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models import posemb
from semivit_jax.models.mae import Mae, with_decoder
from semivit_jax.models.spec import PLAIN, Decoder
from semivit_jax.models.vit import VIT_SIZES, ViT, drop_path_rates
from tests.compiled import quick_jit
from tests.models import spec_of
from tests.parity import recorded

COMPUTE = dataclasses.replace(PLAIN, head_init_std=2e-5)
SIGMAS = 5.0  # of the estimates' own spread: one false alarm in a million numbers


def initial(model, *inputs):
    params = quick_jit(lambda key: model.init(key, *inputs)["params"])(jax.random.key(0))
    return jax.tree.map(np.asarray, params)


@pytest.fixture(scope="module")
def vit_params():
    size = dataclasses.replace(VIT_SIZES["vit_s16"], depth=2)
    spec = spec_of("vit_s16", size=size, num_classes=1000, image_size=224)
    return initial(ViT(spec, COMPUTE), jnp.zeros((1, 224, 224, 3)))


@pytest.fixture(scope="module")
def mae_params():
    size = dataclasses.replace(VIT_SIZES["vit_b16"], depth=2)
    encoder = spec_of("vit_b16", size=size, image_size=224)
    model = Mae(with_decoder(encoder, Decoder(width=512, depth=2, num_heads=16)), COMPUTE, mask_ratio=0.75)
    return initial(model, jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 196)))


def spread(samples, want):
    """Standard errors of mean and std, from the recorded shape of the distribution and the sample's size."""
    uniform = want["absmax"] < 1.8 * want["std"]  # sqrt(3) for a uniform, 4 and more for a normal
    kurtosis = 1.8 if uniform else 3.0
    std = np.sqrt((kurtosis - 1) / (4 * samples.size)) * want["std"]
    return want["std"] / np.sqrt(samples.size), std, uniform


def compare(params, stats):
    for path, leaf in recorded.flat(params).items():
        name = recorded.recorded_name(path)
        if name == "pos_embed":
            continue  # starts as MAE's table, see below
        want = stats[name.format(i=0)]
        layers = leaf if "{i}" in name else leaf[None]
        assert len(layers) == (2 if "{i}" in name else 1)
        for layer in layers:
            if want["std"] == 0:  # biases and gains
                np.testing.assert_array_equal(layer, np.full_like(layer, want["mean"]), err_msg=path)
                continue
            mean_error, std_error, uniform = spread(layer, want)
            both = np.sqrt(2) * SIGMAS  # the recorded numbers are estimates too, of equal size
            assert abs(layer.mean() - want["mean"]) < both * mean_error, path
            assert abs(layer.std() - want["std"]) < both * std_error, path
            largest = np.abs(layer).max()
            if uniform:  # the limit is approached from below, the closer the larger the sample
                assert abs(largest - want["absmax"]) < 20 / layer.size * want["absmax"], path
            else:
                assert 0.75 < largest / want["absmax"] < 1.35, path


def test_vit(vit_params):
    compare(vit_params, recorded.load_json("init_stats")["vit_small_patch16_gap_init_scale_0.001"])


def test_mae(mae_params):
    compare(mae_params, recorded.load_json("init_stats")["mae_vit_base_patch16"])


def test_learned_position_embedding_starts_as_the_table_of_mae(vit_params):
    """Published fine-tuning loads it from MAE's checkpoint; training from scratch starts at the same place."""
    np.testing.assert_allclose(vit_params["posemb"][0], posemb.sincos(384, 14), rtol=0, atol=1e-7)


def test_head_after_loading_mae(vit_params):
    head, want = vit_params["head"], recorded.load_json("init_stats")["head_after_mae_load"]
    np.testing.assert_allclose(head["kernel"].std(), want["weight_std"], rtol=SIGMAS / np.sqrt(head["kernel"].size))
    assert not head["bias"].any()


def test_layers_are_drawn_independently(vit_params, mae_params):
    for blocks in (vit_params["blocks"], mae_params["encoder"]["blocks"], mae_params["decoder"]["blocks"]):
        first, second = (blocks["attn"]["qkv"]["kernel"][i].ravel() for i in range(2))
        assert abs(np.corrcoef(first, second)[0, 1]) < SIGMAS / np.sqrt(first.size)


@pytest.mark.parametrize(
    ("key", "rate", "variant"),
    [("drop_path_vit_base_rate_0.1", 0.1, "vit_b16"), ("drop_path_vit_huge_depth32_rate_0.2", 0.2, "vit_h14")],
)
def test_drop_path_rates(key, rate, variant):
    rates = drop_path_rates(VIT_SIZES[variant], rate)
    want = np.asarray(recorded.load_json("init_stats")[key])
    np.testing.assert_allclose(rates, np.stack([want, want], axis=1), rtol=0, atol=1e-7)
    assert (rates[0] == 0).all()  # block 0 is never dropped
