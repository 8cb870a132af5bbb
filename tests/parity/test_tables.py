"""Recorded tables: learning rates, layer-wise factors, weight decays and position embeddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models import families, posemb, vit
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.ops import optim
from tests.models import spec_of
from tests.parity import recorded


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ["vit_a", "vit_b", "vit_c", "vit_mae"])
def test_cosine_schedule_and_its_scaled_groups(name):
    data = recorded.load("lr_schedule")
    config, table = data[f"{name}_config"], data[name]
    niter, accum, epochs = config["niter"], config["accum"], config["epochs"]
    steps_per_epoch = niter // accum
    lr = optim.cosine(
        optim.Course(
            peak_lr=config["lr"],
            min_lr=config["min_lr"],
            warmup_epochs=config["warmup"],
            epochs=epochs,
            micro_per_epoch=niter,
            steps_per_epoch=steps_per_epoch,
            total_steps=epochs * steps_per_epoch,
            accum=accum,
        )
    )
    # Recorded per iteration; the first of each update counts, and a left-over iteration makes no update.
    table = table.reshape(epochs, niter, 3)[:, : steps_per_epoch * accum : accum].reshape(-1, 3)
    groups = {"full": jnp.ones(()), "half": jnp.ones(()), "other": jnp.ones(())}
    optimizer = optim.adamw(
        betas=(0.9, 0.999),
        eps=0.0,  # the direction of a first gradient of 1 is then exactly 1
        clip_norm=0.0,
        weight_decays=((r"", 0.0),),
        lr_scales=((r"half", 0.5), (r"", 1.0)),
        lr=lr,
    )
    direction, _ = optimizer.direction(groups, optimizer.init(groups), groups)
    lrs = optimizer.lr(jnp.arange(len(table)))
    got = np.stack([lrs * direction[k] for k in ("full", "half", "other")], axis=1)
    np.testing.assert_allclose(got, table, rtol=1e-9, atol=1e-18)
    assert lrs[0] == 0  # the very first update moves nothing


@pytest.mark.parametrize("name", ["conv_a", "conv_b", "conv_c", "conv_steps", "conv_wd"])
def test_cosine_schedule_with_inclusive_warmup(name):
    data = recorded.load("lr_schedule")
    config, table = data[f"{name}_config"], data[name]
    warmup_steps = config.get("warmup_steps", config["warmup"] * config["niter"])
    lr = optim.cosine_inclusive_warmup(
        optim.Course(
            peak_lr=config["base"],
            min_lr=config["final"],
            warmup_epochs=warmup_steps,  # an epoch of one step: the recorded warm-ups are no whole epochs
            epochs=len(table),
            micro_per_epoch=1,
            steps_per_epoch=1,
            total_steps=len(table),
            accum=1,
        )
    )
    np.testing.assert_allclose(lr(jnp.arange(len(table))), table, rtol=1e-9)


# Recorded key -> (variant, pool, position embedding)
LAYER_DECAY = {
    "vit_base_patch16_gap_ld0.65_wd0.05": ("vit_b16", "mean", "learned"),
    "vit_base_patch16_gap_fixedpos_ld1.0_wd0.3": ("vit_b16", "mean", "sincos"),
    "vit_huge_patch14_cls_ld0.75_wd0.05": ("vit_h14", "cls", "learned"),
    "vit_tiny_gap_ld0.75_wd0.05": ("vit_test", "mean", "learned"),
    "vit_tiny_cls_ld0.75_wd0.05": ("vit_test", "cls", "learned"),
    "vit_tiny_gap_ld0.75_wd0.05_head10": ("vit_test", "mean", "learned"),
}


def described(variant, pool, posemb):
    """Shapes of a classifier's params in float64, so that per-layer values keep their digits."""
    spec = spec_of(variant, image_size=4 * VIT_SIZES[variant].patch_size, pool=pool, posemb=posemb)
    params = jax.eval_shape(families.network(spec, PLAIN, 0.0).init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), params)


def by_recorded_name(table, params):
    """{recorded name: value} of a (path pattern, value) table; per-layer values are taken apart."""
    found = {}
    values = recorded.flat(optim.by_path(table, params))
    for path, leaf in recorded.flat(params).items():
        name, value = recorded.recorded_name(path), np.asarray(values[path], np.float64).ravel()
        if "{i}" in name:
            value = np.broadcast_to(value, leaf.shape[0])
            found |= {name.format(i=i): float(v) for i, v in enumerate(value)}
        else:
            found[name] = float(value.item())
    return found


@pytest.mark.parametrize("key", LAYER_DECAY)
def test_layer_wise_factors_and_weight_decays(key):
    want = recorded.load_json("layer_decay")[key]
    variant, pool, position = LAYER_DECAY[key]
    params = described(variant, pool, position)
    scales = vit.lr_scales(VIT_SIZES[variant], want["layer_decay"], want["head_lr_scalar"])
    decays = vit.weight_decays(want["weight_decay"])
    scales, decays = by_recorded_name(scales, params), by_recorded_name(decays, params)
    got = {name: [scales[name], decays[name]] for name in scales}
    optimised = {name: values for name, values in want["params"].items() if values is not None}
    assert got == optimised
    frozen = want["params"].keys() - optimised.keys()
    assert frozen == ({"pos_embed"} if position == "sincos" else set())


@pytest.mark.parametrize(("width", "grid_size"), [(48, 4), (48, 14), (768, 4), (768, 14)])
def test_sincos(width, grid_size):
    want = recorded.load("pos_embed")[f"sincos_d{width}_g{grid_size}"]
    atol = 1e-9 if want.dtype == np.float64 else 2e-6
    np.testing.assert_allclose(posemb.sincos(width, grid_size), want, rtol=0, atol=atol)


def test_a_width_that_four_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"width is 50; .* multiple of 4"):
        posemb.sincos(50, 4)


@pytest.mark.parametrize("grid_size", [7, 16, 24])
def test_resized_position_embedding(grid_size):
    data = recorded.load("pos_embed")
    source = data["interp_src_g14"]
    resized = posemb.resize(jnp.asarray(source, jnp.float64), grid_size)
    np.testing.assert_allclose(resized, data[f"interp_g14_to_g{grid_size}_f64"], rtol=0, atol=1e-9)
    resized = posemb.resize(jnp.asarray(source, jnp.float32), grid_size)
    want = data[f"interp_g14_to_g{grid_size}"]
    np.testing.assert_allclose(resized, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_an_embedding_without_a_square_grid_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 8, 4\).*square"):
        posemb.resize(jnp.zeros((1, 8, 4)), 3)
