"""ViT against recorded logits, features, losses, gradients and block outputs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models import posemb
from semivit_jax.models.layers import Block, normal_init
from semivit_jax.models.patches import patchify
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import ViT
from semivit_jax.ops.losses import cross_entropy
from tests.compiled import quick_jit
from tests.models import spec_of
from tests.parity import recorded


def tiny(pool, posemb="learned", **compute):
    return ViT(spec_of("vit_test", pool=pool, posemb=posemb), dataclasses.replace(PLAIN, **compute))


def tiny_run(pool, dtype, model=None):
    data = recorded.load("vit_tiny")
    mode = {"mean": "gap", "cls": "cls"}[pool]
    names = (data[f"{mode}_{k}"] for k in ("param_names", "param_shapes", "one_plus"))
    model = model or tiny(pool)
    template = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))["params"]
    params = recorded.build(recorded.named_formula(*names, dtype), template)
    return data, mode, model, params, recorded.images(data["x_q"], dtype)


@pytest.mark.parametrize(
    ("pool", "dtype", "suffix", "rtol"),
    [
        ("mean", np.float64, "_f64", 1e-9),
        ("cls", np.float64, "_f64", 1e-9),
        ("mean", np.float32, "", 1e-5),
        pytest.param("cls", np.float32, "", 1e-5, marks=pytest.mark.slow),
    ],
)
def test_outputs_and_gradient_norms(pool, dtype, suffix, rtol):
    with jax.enable_x64(dtype == np.float64):
        data, mode, model, params, images = tiny_run(pool, dtype)
        target = jax.nn.one_hot(data["labels"], 10, dtype=dtype)

        def loss(params):
            logits = model.apply({"params": params}, images)
            return cross_entropy(logits, target).mean(), logits

        @quick_jit
        def run(params):
            features = model.apply({"params": params}, images, method=ViT.features)
            return features, jax.value_and_grad(loss, has_aux=True)(params)

        features, ((value, logits), grads) = run(params)
        np.testing.assert_allclose(features, data[f"{mode}_features{suffix}"], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(logits, data[f"{mode}_logits{suffix}"], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(value, data[f"{mode}_loss{suffix}"], rtol=rtol)
        grads = recorded.unbuild(grads)
        norms = [np.linalg.norm(grads[str(n)]) for n in data[f"{mode}_param_names"]]
        np.testing.assert_allclose(norms, data[f"{mode}_grad_norms{suffix}"], rtol=rtol, atol=1e-8)
        if mode == "gap":
            for name, grad in grads.items():
                scale = np.abs(data[f"gap_grad/{name}"]).max()
                np.testing.assert_allclose(grad, data[f"gap_grad/{name}"], rtol=0, atol=2e-6 * max(scale, 1))


def test_block_outputs_of_the_scan_equal_blocks_applied_one_by_one():
    with jax.enable_x64(True):
        data, _, model, params, images = tiny_run("mean", np.float64)
        block = Block(3, 192, normal_init, None, "xla")

        @quick_jit
        def tokens_after_every_block(params):
            x = model.apply({"params": params}, images, method=lambda m, x: m.patch_embed(patchify(x, 8)))
            x = jnp.concatenate([jnp.broadcast_to(params["cls_token"], (4, 1, 48)), x], axis=1) + params["posemb"]
            tokens = []
            for i in range(3):
                layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
                x, _ = block.apply({"params": layer}, x, None)
                tokens.append(x)
            return jnp.stack(tokens)

        np.testing.assert_allclose(tokens_after_every_block(params), data["block_outputs"], rtol=0, atol=2e-6)


def test_frozen_sincos_table():
    with jax.enable_x64(True):
        data, _, _, params, images = tiny_run("mean", np.float64, tiny("mean", "sincos"))
        np.testing.assert_allclose(posemb.sincos(48, 4)[None], data["gap_fixedpos_pos_embed"], atol=2e-6)
        logits = quick_jit(lambda p: tiny("mean", "sincos").apply({"params": p}, images))(params)
        np.testing.assert_allclose(logits, data["gap_fixedpos_logits"], atol=2e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"remat": "full"},
        pytest.param({"remat": "dots"}, marks=pytest.mark.slow),
        pytest.param({"unroll": 3}, marks=pytest.mark.slow),  # by default: tests/e2e/test_devices.py
    ],
)
def test_remat_and_unroll_change_rounding_only(change):
    with jax.enable_x64(True):
        _, _, model, params, images = tiny_run("mean", np.float64)

        def value_and_grad(model):
            def loss(params):
                return jnp.square(model.apply({"params": params}, images)).mean()

            return quick_jit(jax.value_and_grad(loss))(params)

        plain, changed = value_and_grad(model), value_and_grad(tiny("mean", **change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), plain, changed)


def test_drop_path_masks_scale_each_branch():
    _, _, model, params, images = tiny_run("mean", np.float32)
    apply = quick_jit(lambda masks: model.apply({"params": params}, images, masks))
    same = apply(jnp.ones((3, 2, 4)))
    np.testing.assert_allclose(same, apply(None), rtol=1e-6, atol=1e-7)
    for branch in range(2):
        dropped = jnp.ones((3, 2, 4)).at[1, branch, 2].set(0.0)
        changed = np.abs(apply(dropped) - same).max(axis=1)
        assert changed[2] > 1e-4
        assert changed[[0, 1, 3]].max() == 0
