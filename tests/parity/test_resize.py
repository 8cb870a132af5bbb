"""Resizing of position embeddings and patch kernels against the published code (recorded numbers)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.models import posemb
from semivit_jax.weights.vit_target import resize_patch_kernel
from tests.parity import recorded


@pytest.fixture(scope="module")
def numbers():
    return recorded.load("pos_embed")


@pytest.mark.parametrize("grid_size", [16, 24, 7])
def test_position_embeddings_are_resized_as_published(numbers, grid_size):
    expected = numbers[f"interp_g14_to_g{grid_size}_f64"]
    with jax.enable_x64(True):
        source = jnp.asarray(numbers["interp_src_g14"], jnp.float64)
        resized = np.asarray(posemb.resize(source, grid_size))
    np.testing.assert_allclose(resized, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_patch_kernels_are_resized_as_published(numbers):
    kernel = numbers["patch_w_src_14"].transpose(2, 3, 1, 0)
    expected = numbers["patch_w_14_to_16"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(resize_patch_kernel(kernel, 16), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
