"""Cut images into patches, and embed them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from semivit_jax.models.gather import whole
from semivit_jax.models.layers import Initializer

CHANNELS = 3


def patchify(images: jax.Array, patch_size: int) -> jax.Array:
    """(batch, h, w, c) -> (batch, patches, patch_size**2 * c), row-major, channel last inside a patch."""
    batch, height, width, channels = images.shape
    p = patch_size
    x = images.reshape(batch, height // p, p, width // p, p, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, p * p * channels)


def unpatchify(patches: jax.Array, side: int) -> jax.Array:
    """The images of `patchify`, (batch, h, w, 3); `side` is how many patches are in a row and in a column."""
    batch, num_patches, values = patches.shape
    p = round((values // CHANNELS) ** 0.5)
    x = patches.reshape(batch, num_patches // side, side, p, p, CHANNELS)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, side * p, CHANNELS)


class PatchEmbed(nn.Module):
    """Linear embedding of flat patches, (batch, patches, p * p * 3) -> (batch, patches, width).

    The same function as a convolution with stride p, whose kernel layout (p, p, 3, width) the parameter
    keeps. As a matrix product it takes any subset of the patches, its input needs no padding of three
    channels, and every backend runs it on its matrix units. Without a bias_init there is no bias.
    """

    width: int
    patch_size: int
    kernel_init: Initializer
    bias_init: Initializer | None
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        p = self.patch_size
        kernel = self.param("kernel", self.kernel_init, (p, p, CHANNELS, self.width))
        if self.bias_init is None:
            patches, kernel = promote_dtype(patches, kernel, dtype=self.dtype)
            return patches @ whole(kernel).reshape(-1, self.width)
        bias = self.param("bias", self.bias_init, (self.width,))
        patches, kernel, bias = promote_dtype(patches, kernel, bias, dtype=self.dtype)
        return patches @ whole(kernel).reshape(-1, self.width) + bias
