"""Read what a person gives as an image: a path, bytes, an open file, a Pillow image, or pixels."""

import os
from collections.abc import Sequence
from typing import BinaryIO, TypeGuard

import numpy as np
from PIL import Image

from semivit_jax import files
from semivit_jax.data.images.decode import BadImage, TooLarge, decode, from_pillow
from semivit_jax.data.images.remarks import remark_on
from semivit_jax.inference.trained import ModelInput

_LIMIT = "the limit that the weights were trained with (Pillow's own for imports)"

AnyImage = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray
"""A path, a file's content, an open file, a Pillow image, or uint8 pixels [height, width, 3] (red, green, blue)."""


def view_or_reason(image: AnyImage, view: ModelInput, *, name: str = "") -> np.ndarray | BadImage:
    """The model's input, uint8 [size, size, 3], or why it cannot be had.

    Args:
      image: to read.
      view: of the weights.
      name: what to call it in remarks; '' finds one.

    Raises:
      TypeError: it is no image at all.
    """
    try:
        return view(_pixels(image, view, name))
    except TooLarge as error:
        return BadImage(f"{error.what} {error.max_pixels} pixels, {_LIMIT}; make the image smaller")
    except BadImage as error:
        return error
    except OSError as error:
        return BadImage(f"cannot be read: {error}")


def padded(views: Sequence[np.ndarray | BadImage], batch_size: int, size: int) -> np.ndarray:
    """Views as one batch, uint8 [batch_size, size, size, 3]: black where an image is bad, and beyond the last one."""
    pixels = np.zeros((batch_size, size, size, 3), np.uint8)
    for row, view in enumerate(views):
        if not isinstance(view, BadImage):
            pixels[row] = view
    return pixels


def _pixels(image: AnyImage, view: ModelInput, name: str) -> np.ndarray:
    if isinstance(image, Image.Image):
        return from_pillow(image, exif_rotation=view.preprocessing.exif_rotation)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise BadImage(f"an array of {image.dtype} {image.shape}; expected uint8 [height, width, 3]")
        return image
    return decode(
        _content(image),
        path="pillow",
        exif_rotation=view.preprocessing.exif_rotation,
        max_pixels=view.max_pixels,
        tell=lambda remark: remark_on(name or _name(image), remark),
    )


def is_open(image: object) -> TypeGuard[BinaryIO]:
    """Whether it is an open file, whose lines are no images."""
    return hasattr(image, "read")


def _name(image: str | os.PathLike | bytes | BinaryIO) -> str:
    """What to call an image in a remark on it."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return "an image given as bytes" if isinstance(image, bytes) else str(getattr(image, "name", "an open file"))


def _content(image: str | os.PathLike | bytes | BinaryIO) -> bytes:
    """The bytes of a path, or of an open file from where it stands.

    Raises:
      TypeError: neither, or a file that was opened as text.
    """
    data = image.read() if is_open(image) else image
    if is_open(image) and not isinstance(data, bytes):
        raise TypeError(f"{image!r} gives {type(data).__name__}: open it in binary mode ('rb')")
    if not isinstance(data, bytes | str | os.PathLike):
        kinds = "a path, bytes, an open file, a Pillow image or an array"
        raise TypeError(f"an image is {kinds}; got {type(image).__name__}")
    return data if isinstance(data, bytes) else files.path(data).read_bytes()
