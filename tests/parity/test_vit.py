"""ViT against recorded logits, features, losses, gradients and block outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.losses import cross_entropy
from semivit_jax.models import posemb
from semivit_jax.models.layers import Block, normal_init
from semivit_jax.models.patches import patchify
from semivit_jax.models.vit import ViT
from tests.parity import recorded


def tiny(pool, posemb="learned", **changes):
    fields = {
        "patch_size": 8, "image_size": 32, "width": 48, "depth": 3, "num_heads": 3, "mlp_dim": 192, "num_classes": 10,
        "pool": pool, "posemb": posemb, "head_init_std": 0.02, "dtype": None, "attention": "xla", "remat": "none",
        "unroll": 1,
    }  # fmt: skip
    return ViT(**{**fields, **changes})


def tiny_run(pool, dtype, model=None):
    data = recorded.load("vit_tiny")
    mode = {"mean": "gap", "cls": "cls"}[pool]
    names = (data[f"{mode}_{k}"] for k in ("param_names", "param_shapes", "one_plus"))
    model = model or tiny(pool)
    template = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))["params"]
    params = recorded.build(recorded.named_formula(*names, dtype), template)
    return data, mode, model, params, recorded.images(data["x_q"], dtype)


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize(("dtype", "suffix", "rtol"), [(np.float64, "_f64", 1e-9), (np.float32, "", 1e-5)])
def test_outputs_and_gradient_norms(pool, dtype, suffix, rtol):
    with jax.enable_x64(dtype == np.float64):
        data, mode, model, params, images = tiny_run(pool, dtype)
        target = jax.nn.one_hot(data["labels"], 10, dtype=dtype)

        def loss(params):
            return cross_entropy(model.apply({"params": params}, images), target).mean()

        features = model.apply({"params": params}, images, method=ViT.features)
        np.testing.assert_allclose(features, data[f"{mode}_features{suffix}"], rtol=rtol, atol=rtol)
        logits = model.apply({"params": params}, images)
        np.testing.assert_allclose(logits, data[f"{mode}_logits{suffix}"], rtol=rtol, atol=rtol)
        value, grads = jax.value_and_grad(loss)(params)
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
        x = model.apply({"params": params}, images, method=lambda m, x: m.patch_embed(patchify(x, 8)))
        x = jnp.concatenate([jnp.broadcast_to(params["cls_token"], (4, 1, 48)), x], axis=1) + params["posemb"]
        block = Block(3, 192, normal_init, None, "xla")
        for i in range(3):
            layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
            x, _ = block.apply({"params": layer}, x, None)
            np.testing.assert_allclose(x, data["block_outputs"][i], atol=2e-6)


def test_frozen_sincos_table():
    with jax.enable_x64(True):
        data, _, _, params, images = tiny_run("mean", np.float64, tiny("mean", "sincos"))
        np.testing.assert_allclose(posemb.sincos(48, 4)[None], data["gap_fixedpos_pos_embed"], atol=2e-6)
        logits = tiny("mean", "sincos").apply({"params": params}, images)
        np.testing.assert_allclose(logits, data["gap_fixedpos_logits"], atol=2e-6)


@pytest.mark.parametrize("change", [{"remat": "full"}, {"remat": "dots"}, {"unroll": 3}])
def test_remat_and_unroll_change_rounding_only(change):
    with jax.enable_x64(True):
        _, _, model, params, images = tiny_run("mean", np.float64)

        def loss(params, model):
            return jnp.square(model.apply({"params": params}, images)).mean()

        plain = jax.value_and_grad(loss)(params, model)
        changed = jax.value_and_grad(loss)(params, tiny("mean", **change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), plain, changed)


def test_drop_path_masks_scale_each_branch():
    _, _, model, params, images = tiny_run("mean", np.float32)
    same = model.apply({"params": params}, images, jnp.ones((3, 2, 4)))
    np.testing.assert_allclose(same, model.apply({"params": params}, images), rtol=1e-6, atol=1e-7)
    for branch in range(2):
        dropped = jnp.ones((3, 2, 4)).at[1, branch, 2].set(0.0)
        changed = np.abs(model.apply({"params": params}, images, dropped) - same).max(axis=1)
        assert changed[2] > 1e-4
        assert changed[[0, 1, 3]].max() == 0
