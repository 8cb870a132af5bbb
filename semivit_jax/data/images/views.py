"""The views of an image: which transforms, in which order, with which numbers.

A training view is a random resized crop, a flip, and at most one of colour jitter and RandAugment. The
published views are values of that one composition:

  view      crop area   flip   colour jitter   RandAugment
  mae       0.2 to 1    0.5    -               -
  labeled   0.08 to 1   0.5    -               yes
  weak      0.08 to 1   0.5    0.4             -
  strong    0.08 to 1   0.5    -               yes

Normalisation and random erasing happen on the device. Every view is drawn first (`sample_view`, from the
image's size alone) and applied afterwards (`apply_view`).
"""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import cv2
import numpy as np

from semivit_jax.data.images.color_jitter import Enhancement, apply_color_jitter, sample_color_jitter
from semivit_jax.data.images.crop_resize import Box, crop_and_resize, resize_short_side_and_crop, sample_crop_box
from semivit_jax.data.images.randaugment import AppliedOperator, RandAugmentSpec, apply_randaugment, sample_randaugment
from semivit_jax.data.images.types import ImagePath, Interpolation, Rgb


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """A training view.

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
    randaugment: RandAugmentSpec | None
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
class EvalViewSpec:
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


@dataclass(frozen=True, kw_only=True)
class UnlabeledSpec:
    """The two views of one unlabeled image."""

    weak: ViewSpec
    strong: ViewSpec


class ViewDraw(NamedTuple):
    """Everything random about one view of one image."""

    box: Box
    flip: bool
    jitter: list[Enhancement]
    operators: list[AppliedOperator]


class UnlabeledViews(NamedTuple):
    """uint8 [image_size, image_size, 3] each."""

    weak: np.ndarray
    strong: np.ndarray


def sample_view(generator: np.random.Generator, *, image_height: int, image_width: int, spec: ViewSpec) -> ViewDraw:
    """Draws one view of an image of the given size."""
    box = sample_crop_box(generator, image_height=image_height, image_width=image_width, area_range=spec.crop_scale)
    flip = bool(generator.random() < spec.flip_prob)
    jitter = sample_color_jitter(generator, strength=spec.color_jitter) if spec.color_jitter else []
    operators = sample_randaugment(generator, spec.randaugment) if spec.randaugment is not None else []
    return ViewDraw(box, flip, jitter, operators)


def apply_view(image: np.ndarray, draw: ViewDraw, *, spec: ViewSpec) -> np.ndarray:
    """Applies a drawn view to uint8 [height, width, 3]; returns uint8 [image_size, image_size, 3]."""
    return _augment(_crop(image, draw, spec=spec), draw, spec=spec)


def _crop(image: np.ndarray, draw: ViewDraw, *, spec: ViewSpec) -> np.ndarray:
    view = crop_and_resize(
        image, draw.box, image_size=spec.image_size, interpolation=spec.interpolation, path=spec.path
    )
    return cv2.flip(view, 1) if draw.flip else view


def _augment(view: np.ndarray, draw: ViewDraw, *, spec: ViewSpec) -> np.ndarray:
    view = apply_color_jitter(view, draw.jitter, path=spec.path)
    return apply_randaugment(
        view, draw.operators, fill_rgb=spec.fill_rgb, interpolation=spec.interpolation, path=spec.path
    )


def random_view(image: np.ndarray, generator: np.random.Generator, *, spec: ViewSpec) -> np.ndarray:
    """One random view (MAE, labeled, weak or strong, as `spec` says) of a decoded image."""
    draw = sample_view(generator, image_height=image.shape[0], image_width=image.shape[1], spec=spec)
    return apply_view(image, draw, spec=spec)


def unlabeled_views(image: np.ndarray, generator: np.random.Generator, *, spec: UnlabeledSpec) -> UnlabeledViews:
    """The weak and the strong view of one decoded image, with independent crops and flips."""
    # Like work side by side (both draws, both crops): code and image are still in the processor's cache then.
    size = {"image_height": image.shape[0], "image_width": image.shape[1]}
    weak, strong = (sample_view(generator, **size, spec=each) for each in (spec.weak, spec.strong))
    weak_crop, strong_crop = _crop(image, weak, spec=spec.weak), _crop(image, strong, spec=spec.strong)
    return UnlabeledViews(
        weak=_augment(weak_crop, weak, spec=spec.weak), strong=_augment(strong_crop, strong, spec=spec.strong)
    )


def eval_view(image: np.ndarray, *, spec: EvalViewSpec) -> np.ndarray:
    """The deterministic evaluation view of uint8 [height, width, 3].

    Raises:
      BadImage: it is too long, see `resize_short_side_and_crop`.
    """
    return resize_short_side_and_crop(
        image,
        image_size=spec.image_size,
        crop_fraction=spec.crop_fraction,
        interpolation=spec.interpolation,
        max_pixels=spec.max_pixels,
    )


def fill_rgb_of_mean(mean: tuple[float, float, float]) -> Rgb:
    """The fill colour for a normalisation mean in 0..1, rounded: (124, 116, 104) for ImageNet's."""
    red, green, blue = (round(255 * channel) for channel in mean)
    return red, green, blue


def _check_size_and_interpolation(image_size: int, interpolation: str) -> None:
    if image_size < 1:
        raise ValueError(f"image_size must be 1 or more, got {image_size}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"interpolation must be one of {get_args(Interpolation)}, got {interpolation!r}")
