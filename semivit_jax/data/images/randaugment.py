"""Draw and apply RandAugment with random magnitudes (`rand-m9-mstd0.5-inc1`).

Cubuk et al. 2020, in the variant of the published recipes: 15 operators, drawn uniformly and with
replacement, each left out with probability 1 - `apply_prob`, magnitude clip(N(magnitude, magnitude_std), 0,
10), and operators whose strength always grows with the magnitude ("increasing").
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semivit_jax.config import RandAugmentConfig
from semivit_jax.data.images import fast_ops, fast_warps, pillow_ops
from semivit_jax.data.images.types import ImagePath, Interpolation, Rgb

OPERATORS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
_WITHOUT_ARGUMENT = frozenset({"AutoContrast", "Equalize", "Invert"})
_SIGNED = frozenset(
    {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
    | {"ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"}
)
_MAX_MAGNITUDE = 10.0


class AppliedOperator(NamedTuple):
    """One operator with the number it needs: degrees, bits, threshold, factor or share of the side."""

    name: str
    argument: float | None = None


def sample_randaugment(generator: np.random.Generator, section: RandAugmentConfig) -> list[AppliedOperator]:
    """Draws the operators that will be applied to one image, in order."""
    applied = []
    for _ in range(section.num_ops):
        for_name, for_applying, for_sign = generator.random(3).tolist()
        if for_applying >= section.apply_prob:
            continue
        name = OPERATORS[int(for_name * len(OPERATORS))]
        if name in _WITHOUT_ARGUMENT:
            applied.append(AppliedOperator(name))
            continue
        magnitude = min(max(generator.normal(section.magnitude, section.magnitude_std), 0.0), _MAX_MAGNITUDE)
        sign = -1.0 if name in _SIGNED and for_sign < 0.5 else 1.0
        applied.append(AppliedOperator(name, operator_argument(name, magnitude=magnitude, sign=sign)))
    return applied


def operator_argument(name: str, *, magnitude: float, sign: float) -> float:
    """The number an operator takes at a magnitude of 0 to 10; `sign` is +1 or -1."""
    match name:
        case "Rotate":
            return sign * 3.0 * magnitude
        case "PosterizeIncreasing":
            return 4 - int(0.4 * magnitude)
        case "SolarizeIncreasing":
            return 256 - int(25.6 * magnitude)
        case "SolarizeAdd":
            return int(11.0 * magnitude)
        case "ColorIncreasing" | "ContrastIncreasing" | "BrightnessIncreasing" | "SharpnessIncreasing":
            return 1.0 + sign * 0.09 * magnitude
        case "ShearX" | "ShearY":
            return sign * 0.03 * magnitude
        case "TranslateXRel" | "TranslateYRel":
            return sign * 0.045 * magnitude
    raise ValueError(f"{name!r} takes no magnitude; those that do: {sorted(set(OPERATORS) - _WITHOUT_ARGUMENT)}")


def apply_randaugment(
    image: np.ndarray,
    operators: Sequence[AppliedOperator],
    *,
    fill_rgb: Rgb,
    interpolation: Interpolation,
    path: ImagePath,
) -> np.ndarray:
    """Applies drawn operators in order.

    Args:
      image: uint8 [height, width, 3].
      operators: what `sample_randaugment` returned.
      fill_rgb: colour where a geometric operator moved the image away.
      interpolation: kernel of the geometric operators.
      path: `pillow` is exact; `fast` equals it on all but the geometric operators, where it is close.

    Returns:
      uint8 [height, width, 3].
    """
    apply = pillow_ops.apply_operator if path == "pillow" else _apply_fast
    for name, argument in operators:
        image = apply(image, name, argument, fill_rgb=fill_rgb, interpolation=interpolation)
    return image


def _apply_fast(
    image: np.ndarray, name: str, argument: float | None, *, fill_rgb: Rgb, interpolation: Interpolation
) -> np.ndarray:
    if name in _FAST_GEOMETRIC:
        return _FAST_GEOMETRIC[name](image, argument, fill_rgb=fill_rgb, interpolation=interpolation)
    if argument is None:
        return _FAST_WITHOUT_ARGUMENT[name](image)
    return _FAST_POINTWISE[name](image, argument)


_FAST_WITHOUT_ARGUMENT = {
    "AutoContrast": fast_ops.auto_contrast,
    "Equalize": fast_ops.equalize,
    "Invert": fast_ops.invert,
}
_FAST_POINTWISE = {
    "PosterizeIncreasing": fast_ops.posterize,
    "SolarizeIncreasing": fast_ops.solarize,
    "SolarizeAdd": fast_ops.solarize_add,
    "ColorIncreasing": fast_ops.color,
    "ContrastIncreasing": fast_ops.contrast,
    "BrightnessIncreasing": fast_ops.brightness,
    "SharpnessIncreasing": fast_ops.sharpness,
}
_FAST_GEOMETRIC = {
    "Rotate": fast_warps.rotate,
    "ShearX": fast_warps.shear_x,
    "ShearY": fast_warps.shear_y,
    "TranslateXRel": fast_warps.translate_x,
    "TranslateYRel": fast_warps.translate_y,
}
