"""The ConvNeXt module: initial values, stochastic depth, shapes at its border."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models.convnext import ConvNeXt
from semivit_jax.models.spec import PLAIN
from tests.compiled import quick_jit
from tests.models import spec_of


@pytest.fixture(scope="module")
def params():
    rng = jax.random.key(0, impl="rbg")  # compiles faster than the default
    return quick_jit(tiny().init)(rng, jnp.zeros((1, 32, 32, 3)))["params"]


@pytest.fixture(scope="module")
def visible(params):
    """Parameters with gamma large enough for every branch to show in the output."""
    stages = {
        name: stage | {"gamma": jnp.ones_like(stage["gamma"])}
        for name, stage in params.items()
        if name.startswith("stages")
    }
    return params | stages


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 32, 32, 3))


def tiny(**compute) -> ConvNeXt:
    return ConvNeXt(
        spec_of("convnext_test", num_classes=100), dataclasses.replace(PLAIN, head_init_std=0.02, **compute)
    )


@functools.cache
def program(**changes):
    """Shared by the tests."""
    return quick_jit(tiny(**changes).apply)


def logits_of(params, images, masks=None, **changes) -> jax.Array:
    return program(**changes)({"params": params}, images, masks)


def without_block(params, stage: int, index: int):
    """Parameters whose block `index` of `stage` adds nothing."""
    blocks = params[f"stages_{stage}"]
    return params | {f"stages_{stage}": blocks | {"gamma": blocks["gamma"].at[index].set(0)}}


def test_initial_values_are_the_recorded_ones(params):
    kernels = [
        params["stages_3"]["fc1"],
        params["downsample_3"]["conv"],
        params["stages_3"]["dwconv"],
        params["head"],
    ]
    for dense in kernels:
        assert np.std(dense["kernel"]) == pytest.approx(0.02, rel=0.1)
        assert not np.any(dense["bias"])
    assert np.all(params["stages_2"]["gamma"] == np.float32(1e-6))


def test_blocks_of_one_stage_start_different(params):
    first, second = params["stages_2"]["fc1"]["kernel"]
    assert not np.allclose(first, second)


def test_a_dropped_block_is_left_out_for_its_image_only(visible, images):
    masks = jnp.ones((5, 2)).at[3, 0].set(0)  # second block of the third stage, first image
    dropped = logits_of(visible, images, masks)
    all_kept = logits_of(visible, images)
    left_out = logits_of(without_block(visible, 2, 1), images)
    np.testing.assert_allclose(dropped[0], left_out[0], rtol=1e-6)
    np.testing.assert_allclose(dropped[1], all_kept[1], rtol=1e-6)
    assert not np.allclose(dropped[0], all_kept[0], rtol=1e-3)


def test_a_mask_scales_the_branch(visible, images):
    stage = visible["stages_0"]
    doubled = visible | {"stages_0": stage | {"gamma": 2 * stage["gamma"]}}
    masks = jnp.ones((5, 2)).at[0].set(2)
    np.testing.assert_allclose(
        logits_of(visible, images, masks),
        logits_of(doubled, images),
        rtol=1e-5,
    )


def test_unroll_changes_rounding_only(visible, images):
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (visible, images))
        scanned, unrolled = logits_of(*exact), logits_of(*exact, unroll=2)
    assert scanned.dtype == jnp.float64
    np.testing.assert_allclose(unrolled, scanned, rtol=1e-9)


@pytest.mark.parametrize("remat", [pytest.param("dots", marks=pytest.mark.slow), "full"])
def test_remat_changes_no_gradient_and_keeps_less(visible, images, remat):
    def gradient(remat):
        return quick_jit(jax.grad(lambda params: tiny(remat=remat).apply({"params": params}, images, None).sum()))

    def kept(program):
        """Elements of what the scans over blocks hand to the backward pass."""
        equations = program.trace(visible).jaxpr.eqns
        scans = [equation for equation in equations if equation.primitive.name == "scan"]
        return sum(v.aval.size for s in scans for v in s.outvars[s.params["num_carry"] :])

    plain, again = gradient("none"), gradient(remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain(visible), again(visible))
    assert kept(again) < kept(plain)


def test_bfloat16_activations_give_float32_logits(params, images):
    logits = logits_of(params, images, dtype=jnp.bfloat16)
    assert logits.dtype == jnp.float32


def test_an_image_that_does_not_divide_is_refused(params):
    with pytest.raises(ValueError, match="40 x 32 pixels: both sides must be multiples of 32"):
        logits_of(params, jnp.zeros((1, 40, 32, 3)))


def test_masks_of_another_shape_are_refused(params, images):
    with pytest.raises(ValueError, match=r"shape \(4, 2\): expected \(5, 2\)"):
        logits_of(params, images, jnp.ones((4, 2)))


def test_blocks_in_bfloat16_keep_no_activation_in_float32(params, images):
    """LayerNorm and GELU start their backward pass from their inputs, as in the transformers."""

    def loss(params):
        return tiny(dtype=jnp.bfloat16).apply({"params": params}, images, None).sum()

    kept = [
        (variable.aval.dtype, variable.aval.shape)
        for equation in jax.make_jaxpr(jax.grad(loss))(params).eqns
        if equation.primitive.name == "scan"
        for variable in equation.outvars[equation.params["num_carry"] :]
    ]
    activations = [dtype for dtype, shape in kept if shape[1:2] == images.shape[:1]]  # layer, batch, ...
    assert activations
    assert set(activations) == {jnp.dtype(jnp.bfloat16)}
