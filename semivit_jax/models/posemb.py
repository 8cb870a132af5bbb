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


def _plain(square: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.image.resize(square, shape, method="cubic-pytorch", antialias=False)


def _offset(square: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    scale = jnp.asarray([(new + 0.1) / old for new, old in zip(shape[1:3], square.shape[1:3], strict=True)])
    return jax.image.scale_and_translate(
        square, shape, (1, 2), scale, jnp.zeros(2), method="cubic-pytorch", antialias=False
    )


def _antialiased(square: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.image.resize(square, shape, method="cubic", antialias=True)


RESIZES = {"plain": _plain, "offset": _offset, "antialiased": _antialiased}
"""How authors resize their tables, all with half-pixel centres.

plain: cubic with a = -0.75; MAE's fine-tuning, and transformers.
offset: the same, each side taken for 0.1 patches longer; DINOv2's authors, without registers.
antialiased: cubic with a = -0.5, widened where the grid shrinks; timm, and DINOv2's authors with registers.
"""


def resize(posemb: jax.Array, grid_size: int, rule: str = "plain", *, class_rows: int = 1) -> jax.Array:
    """Resizes a (1, class_rows + g*g, width) position embedding to another grid by a row of RESIZES.

    The first class_rows (1, or 0 of models without a class token) are kept.
    """
    cls_row, grid = posemb[:, :class_rows], posemb[:, class_rows:]
    side, width = round(grid.shape[1] ** 0.5), grid.shape[2]
    if side * side != grid.shape[1]:
        raise ValueError(f"posemb has shape {posemb.shape}; its patch rows do not form a square grid")
    square = grid.reshape(1, side, side, width)
    shape = (1, grid_size, grid_size, width)
    resized = RESIZES[rule](square, shape)
    return jnp.concatenate([cls_row, resized.reshape(1, grid_size**2, width)], axis=1)
