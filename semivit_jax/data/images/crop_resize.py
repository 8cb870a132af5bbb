"""Crop and resize images: random resized crops for training, the centre crop for evaluation."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from semivit_jax.data.images import fast_resize
from semivit_jax.data.images.decode import TooLarge
from semivit_jax.data.images.types import ImagePath, Interpolation

PILLOW_INTERPOLATION = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_ASPECT_RANGE = (3 / 4, 4 / 3)  # width over height; Szegedy et al. 2015 (Inception), section 6
_LOG_ASPECT_RANGE = (math.log(_ASPECT_RANGE[0]), math.log(_ASPECT_RANGE[1]))
_ATTEMPTS = 10


class Box(NamedTuple):
    """A rectangle inside an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def sample_crop_box(
    generator: np.random.Generator, *, image_height: int, image_width: int, area_range: tuple[float, float]
) -> Box:
    """Draws the box of a random resized crop.

    Up to ten attempts: area = U(area_range) of the image, log(width / height) = U(log 3/4, log 4/3), any
    position where the box fits. Then the largest central box with an aspect in that range.
    """
    for _ in range(_ATTEMPTS):
        for_area, for_aspect, for_top, for_left = generator.random(4).tolist()
        area = (area_range[0] + for_area * (area_range[1] - area_range[0])) * image_height * image_width
        aspect = math.exp(_LOG_ASPECT_RANGE[0] + for_aspect * (_LOG_ASPECT_RANGE[1] - _LOG_ASPECT_RANGE[0]))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            top = int(for_top * (image_height - height + 1))
            left = int(for_left * (image_width - width + 1))
            return Box(top, left, height, width)
    return central_box(image_height=image_height, image_width=image_width)


def central_box(*, image_height: int, image_width: int) -> Box:
    """The largest central box whose width over height lies within 3/4 and 4/3."""
    height, width = image_height, image_width
    if width / height < _ASPECT_RANGE[0]:
        height = round(width / _ASPECT_RANGE[0])
    elif width / height > _ASPECT_RANGE[1]:
        width = round(height * _ASPECT_RANGE[1])
    return Box((image_height - height) // 2, (image_width - width) // 2, height, width)


def crop_and_resize(
    image: np.ndarray, box: Box, *, image_size: int, interpolation: Interpolation, path: ImagePath
) -> np.ndarray:
    """Cuts `box` out (pixels outside do not contribute) and resizes it to [image_size, image_size, 3]."""
    crop = image[box.top : box.top + box.height, box.left : box.left + box.width]
    if path == "fast" and fast_resize.AVAILABLE:
        return fast_resize.resize(crop, height=image_size, width=image_size, interpolation=interpolation)
    resized = Image.fromarray(crop).resize((image_size, image_size), PILLOW_INTERPOLATION[interpolation])
    return np.asarray(resized)


def resize_short_side_and_crop(
    image: np.ndarray, *, image_size: int, crop_fraction: float, interpolation: Interpolation, max_pixels: int
) -> np.ndarray:
    """The evaluation view, always by Pillow.

    The shorter side becomes floor(image_size / crop_fraction), the longer one keeps the aspect (rounded
    down), and the central [image_size, image_size, 3] is cut out. The published fraction is 224/256 up to
    image size 224 and 1 above.

    Raises:
      BadImage: the image is so long that more than `max_pixels` pixels would lie between resize and crop, where
        one of 20,000 x 1 becomes one of 5,120,000 x 256.
    """
    height, width = image.shape[:2]
    short_side = int(image_size / crop_fraction)
    if width <= height:
        new_width, new_height = short_side, int(short_side * height / width)
    else:
        new_width, new_height = int(short_side * width / height), short_side
    if new_width * new_height > max_pixels:
        raise TooLarge(
            f"image of {width} x {height} pixels, resized to a shorter side of {short_side}, would have {new_width} x "
            f"{new_height} = {new_width * new_height}, over",
            max_pixels,
        )
    resized = Image.fromarray(image).resize((new_width, new_height), PILLOW_INTERPOLATION[interpolation])
    top, left = round((new_height - image_size) / 2), round((new_width - image_size) / 2)
    return np.asarray(resized.crop((left, top, left + image_size, top + image_size)))
