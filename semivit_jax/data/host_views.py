"""Which views the host makes of the images of each stream."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.image_types import ImagePath
from semivit_jax.data.rows import View, unchanged

EvalView = Callable[[np.ndarray], np.ndarray]


def path_of(data: DataConfig) -> ImagePath:
    """How training decodes: as its views are made."""
    return "fast" if data.photo_views is not None and data.photo_views.path == "fast" else "pillow"


def view_of(data: DataConfig, *, stage: str, stream: str) -> View:
    """(decoded image, generator) -> {name: uint8 image} for one stream; can be pickled.

    With `affine_views` the image travels as it is, because its views are drawn on the device.
    """
    if data.affine_views is not None:
        return functools.partial(_as_decoded, size=data.image_size)
    raise NotImplementedError


def eval_view_of(data: DataConfig) -> EvalView:
    """decoded image -> uint8 [size, size, 3] as evaluation and prediction see it; can be pickled."""
    if data.affine_views is not None:
        return functools.partial(unchanged, size=data.image_size)
    raise NotImplementedError


def _as_decoded(image: np.ndarray, generator: np.random.Generator, *, size: int) -> Mapping[str, np.ndarray]:
    del generator  # nothing is drawn on the host
    return {"image": unchanged(image, size)}
