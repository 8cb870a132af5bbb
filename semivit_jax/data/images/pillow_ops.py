"""Apply the RandAugment operators by Pillow, bit for bit as the published augmentation.

Arguments are those that RandAugment draws: degrees, kept bits, thresholds, enhancement factors, shear
factors and translations as a share of the image side (see `randaugment.operator_argument`).
"""

from functools import partial

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from semivit_jax.data.images.crop_resize import PILLOW_INTERPOLATION
from semivit_jax.data.images.types import Interpolation, Rgb


def apply_operator(
    image: np.ndarray, name: str, argument: float | None, *, fill_rgb: Rgb, interpolation: Interpolation
) -> np.ndarray:
    """Applies one of the 15 operators to uint8 [height, width, 3]; `fill_rgb` shows outside of it."""
    picture = Image.fromarray(image)
    if name in _GEOMETRIC:
        resample = PILLOW_INTERPOLATION[interpolation]
        result = _GEOMETRIC[name](picture, argument, resample=resample, fillcolor=fill_rgb)
    elif argument is None:
        result = _WITHOUT_ARGUMENT[name](picture)
    else:
        result = _POINTWISE[name](picture, argument)
    return np.asarray(result)


def enhance(image: np.ndarray, kind: str, factor: float) -> np.ndarray:
    """`PIL.ImageEnhance` by name: Brightness, Contrast, Color or Sharpness; factor 1 changes nothing."""
    return np.asarray(_enhance(Image.fromarray(image), factor, kind=kind))


def _enhance(picture: Image.Image, factor: float, *, kind: str) -> Image.Image:
    return getattr(ImageEnhance, kind)(picture).enhance(factor)


def _posterize(picture: Image.Image, bits: float) -> Image.Image:
    if bits == 0:  # 2.5 % of the draws; Pillow refuses what the published code got from it, black
        return Image.new("RGB", picture.size)
    return ImageOps.posterize(picture, int(bits))


def _solarize(picture: Image.Image, threshold: float) -> Image.Image:
    return ImageOps.solarize(picture, int(threshold))


def _solarize_add(picture: Image.Image, addend: float) -> Image.Image:
    table = [min(255, value + int(addend)) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


def _affine(picture: Image.Image, matrix: tuple[float, ...], **options) -> Image.Image:
    """Output (x, y) reads input (m0 x + m1 y + m2, m3 x + m4 y + m5), the origin at the top-left corner."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, **options)


def _rotate(picture: Image.Image, degrees: float, **options) -> Image.Image:
    return picture.rotate(degrees, **options)


def _shear_x(picture: Image.Image, factor: float, **options) -> Image.Image:
    return _affine(picture, (1, factor, 0, 0, 1, 0), **options)


def _shear_y(picture: Image.Image, factor: float, **options) -> Image.Image:
    return _affine(picture, (1, 0, 0, factor, 1, 0), **options)


def _translate_x(picture: Image.Image, share: float, **options) -> Image.Image:
    return _affine(picture, (1, 0, share * picture.width, 0, 1, 0), **options)


def _translate_y(picture: Image.Image, share: float, **options) -> Image.Image:
    return _affine(picture, (1, 0, 0, 0, 1, share * picture.height), **options)


_WITHOUT_ARGUMENT = {
    "AutoContrast": ImageOps.autocontrast,
    "Equalize": ImageOps.equalize,
    "Invert": ImageOps.invert,
}
_POINTWISE = {
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": partial(_enhance, kind="Color"),
    "ContrastIncreasing": partial(_enhance, kind="Contrast"),
    "BrightnessIncreasing": partial(_enhance, kind="Brightness"),
    "SharpnessIncreasing": partial(_enhance, kind="Sharpness"),
}
_GEOMETRIC = {
    "Rotate": _rotate,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateXRel": _translate_x,
    "TranslateYRel": _translate_y,
}
