"""Make fixed sin-cos position embeddings, and resize learned ones to another grid."""

import jax
import jax.numpy as jnp
import numpy as np


def sincos(width: int, grid_size: int) -> np.ndarray:
    """Fixed 2-D sin-cos table (He et al. 2022, appendix A.1; Vaswani et al. 2017 per axis).

    The first half of the channels encodes the column, the second the row; each half is
    [sin(p w_k), cos(p w_k)] with w_k = 10000^(-4k/width).

    Args:
      width: channels, a multiple of 4.
      grid_size: patches per side.

    Returns:
      float64 (1 + grid_size**2, width); row 0, the class token's, is zero.
    """
    if width % 4:
        raise ValueError(f"width is {width}; a 2-D sin-cos table needs a multiple of 4")
    omega = 10000.0 ** (-np.arange(width // 4) / (width / 4))
    rows, columns = np.divmod(np.arange(grid_size**2), grid_size)

    def encode(positions: np.ndarray) -> np.ndarray:
        angles = positions[:, None] * omega[None, :]
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    grid = np.concatenate([encode(columns), encode(rows)], axis=1)
    return np.concatenate([np.zeros((1, width)), grid], axis=0)


def resize(posemb: jax.Array, grid_size: int) -> jax.Array:
    """Resizes a (1, 1 + g*g, width) position embedding to another grid; the class token's row is kept.

    Cubic kernel with a = -0.75, half-pixel centres, no antialiasing: what the published weights expect.
    """
    cls_row, grid = posemb[:, :1], posemb[:, 1:]
    side, width = round(grid.shape[1] ** 0.5), grid.shape[2]
    if side * side != grid.shape[1]:
        raise ValueError(f"posemb has shape {posemb.shape}; its patch rows do not form a square grid")
    square = grid.reshape(1, side, side, width)
    shape = (1, grid_size, grid_size, width)
    resized = jax.image.resize(square, shape, method="cubic-pytorch", antialias=False)
    return jnp.concatenate([cls_row, resized.reshape(1, grid_size**2, width)], axis=1)
