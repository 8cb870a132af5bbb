"""Which views the host makes of the images of each stream."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from semivit_jax.config import DataConfig, PhotoViewsConfig
from semivit_jax.data.images import views
from semivit_jax.data.images.randaugment import RandAugmentSpec
from semivit_jax.data.images.types import ImagePath, Interpolation
from semivit_jax.data.images.views import EvalViewSpec, UnlabeledSpec, ViewSpec
from semivit_jax.data.rows import View, unchanged

EvalView = Callable[[np.ndarray], np.ndarray]


def path_of(data: DataConfig) -> ImagePath:
    """How training decodes: as its views are made."""
    return "fast" if data.photo_views is not None and data.photo_views.path == "fast" else "pillow"


def view_of(data: DataConfig, *, stage: str, stream: str) -> View:
    """(decoded image, generator) -> {name: uint8 [size, size, 3]} for one stream; can be pickled.

    With `affine_views` the image travels as it is, because its views are drawn on the device.
    """
    if data.photo_views is None:
        return functools.partial(_as_decoded, size=data.image_size)
    photo = data.photo_views
    if stage == "mae":
        return functools.partial(_one_view, spec=_view_spec(data, photo, crop_scale=photo.mae_crop_scale))
    strong = _view_spec(data, photo, crop_scale=photo.crop_scale, randaugment=_randaugment_spec(photo))
    if stream == "labeled":
        return functools.partial(_one_view, spec=strong)
    weak = _view_spec(data, photo, crop_scale=photo.crop_scale, color_jitter=photo.color_jitter)
    return functools.partial(_weak_and_strong, spec=UnlabeledSpec(weak=weak, strong=strong))


def eval_view_of(data: DataConfig) -> EvalView:
    """decoded image -> uint8 [size, size, 3] as evaluation and prediction see it; can be pickled."""
    if data.photo_views is None:
        return functools.partial(unchanged, size=data.image_size)
    spec = EvalViewSpec(
        image_size=data.image_size,
        crop_fraction=data.eval_crop_fraction,
        interpolation=_interpolation(data),
        max_pixels=data.max_pixels,
    )
    return functools.partial(views.eval_view, spec=spec)


def _view_spec(
    data: DataConfig,
    photo: PhotoViewsConfig,
    *,
    crop_scale: tuple[float, float],
    color_jitter: float = 0.0,
    randaugment: RandAugmentSpec | None = None,
) -> ViewSpec:
    return ViewSpec(
        image_size=data.image_size,
        crop_scale=crop_scale,
        flip_prob=photo.flip_prob,
        color_jitter=color_jitter,
        randaugment=randaugment,
        fill_rgb=views.fill_rgb_of_mean(data.mean),
        interpolation=_interpolation(data),
        path=path_of(data),
    )


def _randaugment_spec(photo: PhotoViewsConfig) -> RandAugmentSpec:
    section = photo.randaugment
    return RandAugmentSpec(
        num_ops=section.num_ops,
        magnitude=section.magnitude,
        magnitude_std=section.magnitude_std,
        apply_prob=section.apply_prob,
    )


def _interpolation(data: DataConfig) -> Interpolation:
    return "bilinear" if data.interpolation == "bilinear" else "bicubic"  # the config's border allows no third


def _one_view(image: np.ndarray, generator: np.random.Generator, *, spec: ViewSpec) -> Mapping[str, np.ndarray]:
    return {"image": views.random_view(image, generator, spec=spec)}


def _weak_and_strong(
    image: np.ndarray, generator: np.random.Generator, *, spec: UnlabeledSpec
) -> Mapping[str, np.ndarray]:
    return views.unlabeled_views(image, generator, spec=spec)._asdict()


def _as_decoded(image: np.ndarray, generator: np.random.Generator, *, size: int) -> Mapping[str, np.ndarray]:
    del generator  # nothing is drawn on the host
    return {"image": unchanged(image, size)}
