"""Colour jitter of the weak view: brightness, contrast and saturation by random factors, in random order."""

from typing import NamedTuple

import numpy as np

from semivit_jax.data import fast_ops, pillow_ops
from semivit_jax.data.image_types import ImagePath

_PILLOW_NAMES = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}
_FAST = {"brightness": fast_ops.brightness, "contrast": fast_ops.contrast, "saturation": fast_ops.color}


class Enhancement(NamedTuple):
    """One enhancement (`brightness`, `contrast` or `saturation`); factor 1 changes nothing."""

    kind: str
    factor: float


def sample_color_jitter(generator: np.random.Generator, *, strength: float) -> list[Enhancement]:
    """Draws a uniformly random order and independent factors U(max(0, 1 - strength), 1 + strength)."""
    factors = generator.uniform(max(0.0, 1.0 - strength), 1.0 + strength, size=len(_FAST))
    enhancements = [Enhancement(kind, float(factor)) for kind, factor in zip(_FAST, factors, strict=True)]
    return [enhancements[index] for index in generator.permutation(len(enhancements))]


def apply_color_jitter(image: np.ndarray, enhancements: list[Enhancement], *, path: ImagePath) -> np.ndarray:
    """Applies the enhancements in order, rounding to uint8 after each; both paths give the same pixels."""
    for kind, factor in enhancements:
        if path == "pillow":
            image = pillow_ops.enhance(image, _PILLOW_NAMES[kind], factor)
        else:
            image = _FAST[kind](image, factor)
    return image
