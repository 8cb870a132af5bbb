"""Make the views of an image: crop, flip, colour jitter or RandAugment; the table VIEWS.

A training view is a random resized crop, a flip, and at most one of colour jitter and RandAugment; each is a row
of `VIEWS`. Their numbers are those of `config.data.photo_views`, here as published:

  view      crop area   flip   colour jitter   RandAugment
  mae       0.2 to 1    0.5    -               -
  labeled   0.08 to 1   0.5    -               yes
  weak      0.08 to 1   0.5    0.4             -
  strong    0.08 to 1   0.5    -               yes

Normalisation and random erasing happen on the device. Every view is drawn first (`sample_view`, from the
image's size alone) and applied afterwards (`apply_views`). With `affine_views` the host draws nothing: the image
travels as it is, and its views are made on the device.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import cv2
import numpy as np

from semivit_jax.config import DataConfig, PhotoViewsConfig, RandAugmentConfig
from semivit_jax.data.images.color_jitter import Enhancement, apply_color_jitter, sample_color_jitter
from semivit_jax.data.images.crop_resize import Box, crop_and_resize, resize_short_side_and_crop, sample_crop_box
from semivit_jax.data.images.randaugment import AppliedOperator, apply_randaugment, sample_randaugment
from semivit_jax.data.images.types import ImagePath, Interpolation, Rgb

RandomViews = Callable[[np.ndarray, np.random.Generator], Mapping[str, np.ndarray]]
"""(decoded image, generator) -> {leaf: uint8 [size, size, 3]}; can be pickled."""

FixedView = Callable[[np.ndarray], np.ndarray]
"""Decoded image -> uint8 [size, size, 3]; can be pickled."""


@dataclass(frozen=True, kw_only=True)
class PhotoView:
    """A training view of photographs.

    Attributes:
      image_size: side of the square output, pixels.
      crop_scale: smallest and largest share of the image's area in the crop.
      flip_prob: probability of mirroring left and right.
      color_jitter: strength of the colour jitter, 0 for none.
      randaugment: operators after the flip, None for none; replaces colour jitter.
      fill_rgb: what RandAugment shows outside the image, by custom the data set's mean colour.
      interpolation: kernel of the crop and of RandAugment's geometric operators.
      path: implementation, see `types.ImagePath`.
    """

    image_size: int
    crop_scale: tuple[float, float]
    flip_prob: float
    color_jitter: float
    randaugment: RandAugmentConfig | None
    fill_rgb: Rgb
    interpolation: Interpolation
    path: ImagePath

    def __post_init__(self):
        _check_size_and_interpolation(self.image_size, self.interpolation)
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must be 0 < low <= high <= 1, got {self.crop_scale}")
        if not 0 <= self.flip_prob <= 1:
            raise ValueError(f"flip_prob must be within 0 and 1, got {self.flip_prob}")
        if self.color_jitter < 0:
            raise ValueError(f"color_jitter must be 0 or more, got {self.color_jitter}")
        if self.color_jitter and self.randaugment is not None:
            raise ValueError("a view has color_jitter or randaugment, not both (RandAugment replaces the jitter)")
        if self.path not in get_args(ImagePath):
            raise ValueError(f"path must be one of {get_args(ImagePath)}, got {self.path!r}")


@dataclass(frozen=True, kw_only=True)
class EvalView:
    """The evaluation view, always by Pillow.

    Attributes:
      image_size: side of the square output, pixels.
      crop_fraction: image_size over the shorter side after resizing (published: 224/256 up to size 224,
        1 above).
      interpolation: kernel of the resize.
      max_pixels: images that would have more pixels once resized, before the crop, are refused.
    """

    image_size: int
    crop_fraction: float
    interpolation: Interpolation
    max_pixels: int

    def __post_init__(self):
        _check_size_and_interpolation(self.image_size, self.interpolation)
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"eval_crop_fraction must be above 0 and at most 1, got {self.crop_fraction}")


class ViewDraw(NamedTuple):
    """Everything random about one view of one image."""

    box: Box
    flip: bool
    jitter: list[Enhancement]
    operators: list[AppliedOperator]


def sample_view(generator: np.random.Generator, *, image_height: int, image_width: int, view: PhotoView) -> ViewDraw:
    """Draws one view of an image of the given size."""
    box = sample_crop_box(generator, image_height=image_height, image_width=image_width, area_range=view.crop_scale)
    flip = bool(generator.random() < view.flip_prob)
    jitter = sample_color_jitter(generator, strength=view.color_jitter) if view.color_jitter else []
    operators = sample_randaugment(generator, view.randaugment) if view.randaugment is not None else []
    return ViewDraw(box, flip, jitter, operators)


def apply_views(image: np.ndarray, draws: Sequence[ViewDraw], views: Sequence[PhotoView]) -> list[np.ndarray]:
    """Applies drawn views to uint8 [height, width, 3]; returns uint8 [image_size, image_size, 3] each."""
    # Like work side by side, all crops first: code and image are still in the processor's cache then.
    crops = [_crop(image, draw, view) for draw, view in zip(draws, views, strict=True)]
    return [_alter(crop, draw, view) for crop, draw, view in zip(crops, draws, views, strict=True)]


def random_views(image: np.ndarray, generator: np.random.Generator, views: Sequence[PhotoView]) -> list[np.ndarray]:
    """Random views of one decoded image, drawn one after the other: each has a crop and a flip of its own."""
    height, width = image.shape[:2]
    draws = [sample_view(generator, image_height=height, image_width=width, view=view) for view in views]
    return apply_views(image, draws, views)


def eval_view(image: np.ndarray, *, view: EvalView) -> np.ndarray:
    """The deterministic evaluation view of uint8 [height, width, 3].

    Raises:
      BadImage: it is too long, see `resize_short_side_and_crop`.
    """
    return resize_short_side_and_crop(
        image,
        image_size=view.image_size,
        crop_fraction=view.crop_fraction,
        interpolation=view.interpolation,
        max_pixels=view.max_pixels,
    )


def fill_rgb_of_mean(mean: tuple[float, float, float]) -> Rgb:
    """The fill colour for a normalisation mean in 0..1, rounded: (124, 116, 104) for ImageNet's."""
    red, green, blue = (round(255 * channel) for channel in mean)
    return red, green, blue


def unchanged(image: np.ndarray, size: int) -> np.ndarray:
    """The image itself, which must have the size that the model expects."""
    if image.shape != (size, size, 3):
        raise ValueError(
            f"an image has the shape {image.shape}; with config.data.affine_views every image must have "
            f"config.data.image_size = {size} pixels on each side"
        )
    return image


def path_of(data: DataConfig) -> ImagePath:
    """How training decodes: as its views are made."""
    return "fast" if data.photo_views is not None and data.photo_views.path == "fast" else "pillow"


def leaves_of(data: DataConfig, views: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Leaves that hold a stream's (leaf, row of VIEWS); with `affine_views` one 'image' stands for all of them."""
    return tuple(leaf for leaf, _ in views) if data.photo_views is not None else ("image",)


def views_of(data: DataConfig, views: Sequence[tuple[str, str]]) -> RandomViews:
    """What the host makes of a stream's images; `views` are its (leaf, row of VIEWS)."""
    if data.photo_views is None:
        return functools.partial(_as_decoded, size=data.image_size)
    made = tuple(VIEWS[row](data, data.photo_views) for _, row in views)
    return functools.partial(_named_views, leaves=leaves_of(data, views), views=made)


def eval_view_of(data: DataConfig) -> FixedView:
    """How evaluation and prediction see an image."""
    if data.photo_views is None:
        return functools.partial(unchanged, size=data.image_size)
    view = EvalView(
        image_size=data.image_size,
        crop_fraction=data.eval_crop_fraction,
        interpolation=_interpolation(data),
        max_pixels=data.max_pixels,
    )
    return functools.partial(eval_view, view=view)


def _photo_view(
    data: DataConfig,
    photo: PhotoViewsConfig,
    *,
    crop_scale: tuple[float, float],
    color_jitter: float = 0.0,
    randaugment: RandAugmentConfig | None = None,
) -> PhotoView:
    return PhotoView(
        image_size=data.image_size,
        crop_scale=crop_scale,
        flip_prob=photo.flip_prob,
        color_jitter=color_jitter,
        randaugment=randaugment,
        fill_rgb=fill_rgb_of_mean(data.mean),
        interpolation=_interpolation(data),
        path=path_of(data),
    )


def _strong(data: DataConfig, photo: PhotoViewsConfig) -> PhotoView:
    return _photo_view(data, photo, crop_scale=photo.crop_scale, randaugment=photo.randaugment)


VIEWS: dict[str, Callable[[DataConfig, PhotoViewsConfig], PhotoView]] = {
    "mae": lambda data, photo: _photo_view(data, photo, crop_scale=photo.mae_crop_scale),
    "labeled": _strong,
    "weak": lambda data, photo: _photo_view(data, photo, crop_scale=photo.crop_scale, color_jitter=photo.color_jitter),
    "strong": _strong,
}


def _crop(image: np.ndarray, draw: ViewDraw, view: PhotoView) -> np.ndarray:
    cropped = crop_and_resize(
        image, draw.box, image_size=view.image_size, interpolation=view.interpolation, path=view.path
    )
    return cv2.flip(cropped, 1) if draw.flip else cropped


def _alter(cropped: np.ndarray, draw: ViewDraw, view: PhotoView) -> np.ndarray:
    jittered = apply_color_jitter(cropped, draw.jitter, path=view.path)
    return apply_randaugment(
        jittered, draw.operators, fill_rgb=view.fill_rgb, interpolation=view.interpolation, path=view.path
    )


def _named_views(
    image: np.ndarray, generator: np.random.Generator, *, leaves: Sequence[str], views: Sequence[PhotoView]
) -> Mapping[str, np.ndarray]:
    return dict(zip(leaves, random_views(image, generator, views), strict=True))


def _as_decoded(image: np.ndarray, generator: np.random.Generator, *, size: int) -> Mapping[str, np.ndarray]:
    del generator  # nothing is drawn on the host
    return {"image": unchanged(image, size)}


def _interpolation(data: DataConfig) -> Interpolation:
    return "bilinear" if data.interpolation == "bilinear" else "bicubic"  # the config's border allows no third


def _check_size_and_interpolation(image_size: int, interpolation: str) -> None:
    if image_size < 1:
        raise ValueError(f"image_size must be 1 or more, got {image_size}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"interpolation must be one of {get_args(Interpolation)}, got {interpolation!r}")
