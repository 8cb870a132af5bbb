"""Jitter the colours of the weak view: brightness, contrast, saturation, in random order."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from semivit_jax.data.images import fast_ops, pillow_ops
from semivit_jax.data.images.types import ImagePath

_PILLOW_NAMES = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}
_FAST = {"brightness": fast_ops.brightness, "contrast": fast_ops.contrast, "saturation": fast_ops.color}
_ORDERS = tuple(itertools.permutations(range(len(_FAST))))


class Enhancement(NamedTuple):
    """One enhancement (`brightness`, `contrast` or `saturation`); factor 1 changes nothing."""

    kind: str
    factor: float


def sample_color_jitter(generator: np.random.Generator, *, strength: float) -> list[Enhancement]:
    """Draws a uniformly random order and independent factors U(max(0, 1 - strength), 1 + strength).

    Factors are multiples of `fast_ops.FACTOR_STEP` (1/4096), which the fast path applies in one exact pass.
    """
    low = math.ceil(max(0.0, 1.0 - strength) / fast_ops.FACTOR_STEP)
    count = math.floor((1.0 + strength) / fast_ops.FACTOR_STEP) - low + 1
    *for_factors, for_order = generator.random(len(_FAST) + 1).tolist()
    enhancements = [
        Enhancement(kind, (low + int(share * count)) * fast_ops.FACTOR_STEP)
        for kind, share in zip(_FAST, for_factors, strict=True)
    ]
    return [enhancements[index] for index in _ORDERS[int(for_order * len(_ORDERS))]]


def apply_color_jitter(image: np.ndarray, enhancements: list[Enhancement], *, path: ImagePath) -> np.ndarray:
    """Applies the enhancements in order, rounding to uint8 after each; both paths give the same pixels."""
    for kind, factor in enhancements:
        if path == "pillow":
            image = pillow_ops.enhance(image, _PILLOW_NAMES[kind], factor)
        else:
            image = _FAST[kind](image, factor)
    return image
