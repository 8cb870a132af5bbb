"""Draw and apply random affine views of small drawings, on the device."""

import jax
import jax.numpy as jnp


def sample_affine(
    key: jax.Array, *, degrees: float, shift: float, scale: tuple[float, float], shear: float, num: int
) -> jax.Array:
    """Matrices that map output to input coordinates, centred on the image and in units of its side.

    Args:
      degrees: rotation in [-degrees, degrees].
      shift: translation in [-shift, shift], share of the side, each direction on its own.
      scale: factor of the drawing's height, and of its width, each uniform in [low, high].
      shear: horizontal shear factor in [-shear, shear].
      num: matrices.

    Returns:
      float (num, 2, 3), rows (y, x), columns (y, x, 1).
    """
    key_angle, key_scale, key_shear, key_shift = jax.random.split(key, 4)
    angle = jnp.deg2rad(jax.random.uniform(key_angle, (num,), minval=-degrees, maxval=degrees))
    stretch_y, stretch_x = jax.random.uniform(key_scale, (2, num), minval=scale[0], maxval=scale[1])
    slant = jax.random.uniform(key_shear, (num,), minval=-shear, maxval=shear)
    offset = jax.random.uniform(key_shift, (num, 2), minval=-shift, maxval=shift)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows_y = jnp.stack([cos / stretch_y, sin / stretch_y, offset[:, 0]], axis=-1)
    rows_x = jnp.stack([(slant * cos - sin) / stretch_x, (cos + slant * sin) / stretch_x, offset[:, 1]], axis=-1)
    return jnp.stack([rows_y, rows_x], axis=1)


def apply_affine(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Warps with bilinear interpolation and zeros outside; images (batch, s, s, c), matrices (batch, 2, 3).

    Interpolation is written as a product with the hat function's weights, (s*s, s*s) per image: no
    gathers, and cheap for the sides (8 to 32) this is meant for.
    """
    batch, side, _, channels = images.shape
    coordinates = (jnp.arange(side, dtype=matrices.dtype) - (side - 1) / 2) / side
    y, x = jnp.meshgrid(coordinates, coordinates, indexing="ij")
    homogeneous = jnp.stack([y.ravel(), x.ravel(), jnp.ones(side * side, matrices.dtype)])
    source = (matrices @ homogeneous) * side + (side - 1) / 2  # (batch, 2, s*s), in pixels
    grid = jnp.arange(side, dtype=matrices.dtype)
    weight_y = jnp.maximum(0.0, 1.0 - jnp.abs(source[:, 0, :, None] - grid))
    weight_x = jnp.maximum(0.0, 1.0 - jnp.abs(source[:, 1, :, None] - grid))
    weights = (weight_y[..., :, None] * weight_x[..., None, :]).reshape(batch, side * side, side * side)
    flat = images.reshape(batch, side * side, channels)
    return jnp.einsum("bop,bpc->boc", weights.astype(images.dtype), flat).reshape(images.shape)
