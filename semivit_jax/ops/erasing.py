"""Erase random boxes of normalised images with normal noise (Zhong et al. 2020, pixel mode)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

AREA = (0.02, 1 / 3)  # share of the image, uniform
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))  # height over width, log-uniform
ATTEMPTS = 10  # boxes that do not fit are drawn again; after the last one nothing is erased


class ErasingDraw(NamedTuple):
    """box: int (n, 4), (y_low, y_high, x_low, x_high), empty where nothing is erased; noise_key: (n,) keys.

    The noise itself is as large as the images, so it is drawn from its key where it is used.
    """

    box: jax.Array
    noise_key: jax.Array


def sample_erasing(key: jax.Array, *, num: int, image_size: int, erase_prob: float) -> ErasingDraw:
    """Boxes and noise keys for `num` square images, each erased with probability `erase_prob`."""
    key_erase, key_area, key_aspect, key_y, key_x, key_noise = jax.random.split(key, 6)
    shape = (num, ATTEMPTS)
    area = jax.random.uniform(key_area, shape, minval=AREA[0], maxval=AREA[1]) * image_size**2
    aspect = jnp.exp(jax.random.uniform(key_aspect, shape, minval=LOG_ASPECT[0], maxval=LOG_ASPECT[1]))
    height = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    width = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (height < image_size) & (width < image_size)
    first = jnp.argmax(fits, axis=1)[:, None]
    height, width = (jnp.take_along_axis(x, first, axis=1)[:, 0] for x in (height, width))
    erased = fits.any(axis=1) & jax.random.bernoulli(key_erase, erase_prob, (num,))
    height, width = jnp.where(erased, height, 0), jnp.where(erased, width, 0)
    y = jax.random.randint(key_y, (num,), 0, image_size - height + 1)
    x = jax.random.randint(key_x, (num,), 0, image_size - width + 1)
    box = jnp.stack([y, y + height, x, x + width], axis=1)
    return ErasingDraw(box, jax.random.split(key_noise, num))


def apply_erasing(images: jax.Array, draw: ErasingDraw) -> jax.Array:
    """Replaces every pixel and channel of the boxes by N(0, 1); images (n, h, w, c), normalised floats."""
    noise = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:], images.dtype))(draw.noise_key)
    y, x = jnp.arange(images.shape[1])[None, :, None], jnp.arange(images.shape[2])[None, None, :]
    y_low, y_high, x_low, x_high = (draw.box[:, i, None, None] for i in range(4))
    inside = (y >= y_low) & (y < y_high) & (x >= x_low) & (x < x_high)
    return jnp.where(inside[..., None], noise, images)
