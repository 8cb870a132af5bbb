"""Read from a ViT's position embedding its image size, whether it has a class token's row, and who trained it."""

import dataclasses
import math

import numpy as np

from semivit_jax.models import posemb as posemb_lib
from semivit_jax.weights.sources import Source

_HALF_PRECISION = 1e-2  # more than bfloat16 moves the table, whose values are -1..1, and less than any training does


def with_image_size(source: Source) -> Source:
    """The source with its image size; an embedding of patches alone gets a row of zeros for the class token.

    Models such as DeiT III add the embedding before the class token, which is the same as zeros for its row.

    Raises:
      ValueError: there is no class token, or the rows form no square.
    """
    tensors, cls_token = source.tensors, str(source.table["cls_token"])
    posemb, kernel = (str(source.table[path]) for path in ("posemb", "patch_embed/kernel"))
    shape, patch = tensors.shapes.get(posemb), tensors.shapes.get(kernel, ())[-1:]
    if shape is None or len(shape) != 3 or not patch:
        return source  # what is lacking is told with all that is
    rows, width = shape[1:]
    if cls_token not in tensors.shapes:
        raise ValueError(
            f"no class token ({cls_token}), and {posemb} has {rows} rows: the models here compute with a class token, "
            "also where they take the mean over the patches; take weights with one"
        )
    if not _side(rows - 1) and not _side(rows):
        raise ValueError(f"{posemb} has {rows} rows: neither a square of patches nor one with a class token before it")
    if not _side(rows - 1):
        tensors = tensors.replaced(posemb, (1, rows + 1, width), lambda: _with_class_row(source.tensors.read(posemb)))
    side = _side(rows - 1) or _side(rows)
    return dataclasses.replace(source, tensors=tensors, image_size=side * patch[0])


def is_masked_encoder(source: Source) -> bool:
    """Whether it has no head and the frozen sin-cos table: the encoder of a masked autoencoder (He et al. 2022).

    Nothing reads its class token while it is trained, so it does not tell what a head should read.
    """
    name = str(source.table["posemb"])
    if source.num_classes or len(source.tensors.shapes.get(name, ())) != 3:
        return False
    stored = source.tensors.read(name)
    return distance_from_sincos(stored) < _HALF_PRECISION


def distance_from_sincos(stored: np.ndarray) -> float:
    """Largest difference of a (1, 1 + rows, width) position embedding from the table of its size; inf of none."""
    rows, width = stored.shape[1:]
    if not _side(rows - 1) or width % 4:
        return math.inf
    return float(np.abs(stored - posemb_lib.sincos(width, _side(rows - 1))[None]).max())


def _side(rows: int) -> int:
    """Side of the square that the rows form; 0 where they form none."""
    return side if (side := math.isqrt(rows)) ** 2 == rows else 0


def _with_class_row(posemb: np.ndarray) -> np.ndarray:
    return np.pad(posemb, ((0, 0), (1, 0), (0, 0)))
