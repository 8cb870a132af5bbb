"""MAE against recorded latents, predictions, masks, targets, losses and gradient norms."""

import jax
import numpy as np
import pytest

from semivit_jax.models import posemb
from semivit_jax.models.mae import random_masking
from semivit_jax.models.patches import patchify
from semivit_jax.ops.losses import mae_loss
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import autoencoder_of
from tests.parity import recorded

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "suffix", "rtol"),
    [
        (np.float64, "_f64", 1e-9),
        pytest.param(np.float32, "", 1e-5, marks=pytest.mark.slow),  # the wider bound; by default the ViT's alone
    ],
)


def tiny():
    """The recorded model: two blocks of width 48, a decoder of two blocks of width 32."""
    config = small_config(**{"data.image_size": 32, "model.variant": "vit_test2", "mae.decoder_depth": 2})
    return autoencoder_of(config)


def tiny_run(dtype):
    data, model = recorded.load("mae_tiny"), tiny()
    names = (data[k] for k in ("param_names", "param_shapes", "one_plus"))
    params = recorded.build(recorded.named_formula(*names, dtype), jax.eval_shape(model.init, jax.random.key(0)))
    return data, model, params, recorded.images(data["x_q"], dtype), data["noise"].astype(dtype)


@PRECISIONS
@pytest.mark.usefixtures("recorded_tables")
def test_latent_prediction_losses_and_gradient_norms(dtype, suffix, rtol):
    with jax.enable_x64(dtype == np.float64):
        data, model, params, images, noise = tiny_run(dtype)

        def loss(params, *, norm_pix):
            output = model.apply(params, images, noise)
            patches = patchify(images, model.patch_size)
            total, removed = mae_loss(patches, output.pred, output.patch_mask, norm_pix=norm_pix)
            return total / removed, output

        @quick_jit
        def run(params):
            gradient = jax.value_and_grad(loss, has_aux=True)
            return gradient(params, norm_pix=True), gradient(params, norm_pix=False)

        for kind, ((value, output), grads) in zip(("norm_pix", "raw_pix"), run(params), strict=True):
            np.testing.assert_allclose(output.latent, data[f"latent{suffix}"], rtol=rtol, atol=rtol)
            np.testing.assert_allclose(output.pred, data[f"pred{suffix}"], rtol=rtol, atol=rtol)
            np.testing.assert_array_equal(output.patch_mask, data["mask"])
            np.testing.assert_allclose(value, data[f"{kind}_loss{suffix}"], rtol=rtol)
            named = recorded.unbuild(grads)
            assert sorted(named) == sorted(data["grad_param_names"])
            norms = [np.linalg.norm(named[str(n)]) for n in data["grad_param_names"]]
            np.testing.assert_allclose(norms, data[f"{kind}_grad_norms{suffix}"], rtol=rtol, atol=1e-8)


def test_masking():
    data = recorded.load("mae_tiny")
    masking = random_masking(data["noise"], 0.75)
    np.testing.assert_array_equal(masking.restore_ids, data["ids_restore"])
    np.testing.assert_array_equal(masking.patch_mask, data["mask"])
    np.testing.assert_array_equal(masking.keep_ids, np.argsort(data["noise"], axis=1, kind="stable")[:, :4])


def test_target_patches():
    data = recorded.load("mae_tiny")
    patches = patchify(recorded.images(data["x_q"], np.float32), 8)
    np.testing.assert_allclose(patches, data["target_patches"], rtol=0, atol=0)


def test_normalised_target():
    """The error of a prediction equal to the recorded normalised target is that of rounding."""
    with jax.enable_x64(True):
        data = recorded.load("mae_tiny")
        patches, target = (data[k].astype(np.float64) for k in ("target_patches", "target_normalised"))
        removed = np.ones(patches.shape[:2])
        total, count = mae_loss(patches, target, removed, norm_pix=True)
        assert count == removed.size
        assert np.sqrt(total / count) < 2e-6 / 4  # root mean square, so no entry can hide 2e-6 in every patch
        for i, j in np.ndindex(2, 4):  # patch by patch, so that one wrong patch does not drown
            one, _ = mae_loss(patches[i, j][None, None], target[i, j][None, None], np.ones((1, 1)), norm_pix=True)
            assert np.sqrt(one) < 2e-6
        total, _ = mae_loss(patches, patches, removed, norm_pix=False)
        assert total == 0


def test_frozen_position_tables():
    data = recorded.load("mae_tiny")
    for key, width in (("pos_embed", 48), ("decoder_pos_embed", 32)):
        np.testing.assert_allclose(posemb.sincos(width, 4)[None], data[key], rtol=0, atol=2e-6)
