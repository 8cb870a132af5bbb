"""The geometric RandAugment operators for training, nearly equal to Pillow's.

Shears and translations move rows or columns by a fraction of a pixel, so they are one-dimensional filters;
they use Pillow's own kernel and differ by single steps of rounding. Rotation is OpenCV's warp, whose kernel
differs. All take uint8 [height, width, 3] and show `fill_rgb` where the pixel centre came from outside.
Coordinates are those of Pillow: output (x, y) reads the given input position, both counted from the top-
left corner of the image.
"""

import math

import cv2
import numpy as np

from semivit_jax.data.fast_ops import row_strips
from semivit_jax.data.fast_resize import CV2_INTERPOLATION
from semivit_jax.data.image_types import Interpolation, Rgb

# Pillow truncates where OpenCV rounds. The small remainder keeps sums that should be whole numbers (flat
# areas) from falling just below them.
_TRUNCATION_GUARD = 1e-3


def translate_x(image: np.ndarray, share: float, *, fill_rgb: Rgb, interpolation: Interpolation) -> np.ndarray:
    """Output (x, y) reads input (x + share * width, y): a positive share moves the content left."""
    width = image.shape[1]
    shift = share * width
    whole = math.floor(shift)
    taps = _taps(np.array([shift - whole]), interpolation=interpolation)[:, 0]
    # One more column on the left: its centre can still lie inside the image while its interval starts
    # outside.
    padded = cv2.copyMakeBorder(image, 0, 0, 1, 0, cv2.BORDER_REPLICATE)
    moved = cv2.filter2D(
        padded,
        -1,
        taps[None, :],
        anchor=(len(taps) // 2 - 1, 0),
        delta=_TRUNCATION_GUARD - 0.5,
        borderType=cv2.BORDER_REPLICATE,
    )
    first = min(width, max(0, math.ceil(-0.5 - shift)))
    last = max(first, min(width, math.ceil(width - 0.5 - shift)))
    if first == last:
        return _filled(image.shape, fill_rgb)
    visible = moved[:, first + whole + 1 : last + whole + 1]
    return cv2.copyMakeBorder(visible, 0, 0, first, width - last, cv2.BORDER_CONSTANT, value=fill_rgb)


def translate_y(image: np.ndarray, share: float, *, fill_rgb: Rgb, interpolation: Interpolation) -> np.ndarray:
    """Output (x, y) reads input (x, y + share * height): a positive share moves the content up."""
    moved = translate_x(cv2.transpose(image), share, fill_rgb=fill_rgb, interpolation=interpolation)
    return cv2.transpose(moved)


def shear_x(image: np.ndarray, factor: float, *, fill_rgb: Rgb, interpolation: Interpolation) -> np.ndarray:
    """Output (x, y) reads input (x + factor * y, y)."""
    height, width = image.shape[:2]
    shift = factor * (np.arange(height) + 0.5)
    whole = np.floor(shift).astype(np.int64)
    taps = _taps(shift - whole, interpolation=interpolation)
    starts = whole - (len(taps) // 2 - 1)
    sheared = np.empty_like(image)
    for rows in row_strips(height, width):
        sheared[rows] = _filter_rows(image[rows], starts[rows], taps[:, rows])
    source_x = (np.arange(width, dtype=np.float32) + 0.5) + shift.astype(np.float32)[:, None]
    return _fill_outside(sheared, (source_x >= 0) & (source_x < width), fill_rgb=fill_rgb)


def shear_y(image: np.ndarray, factor: float, *, fill_rgb: Rgb, interpolation: Interpolation) -> np.ndarray:
    """Output (x, y) reads input (x, y + factor * x)."""
    sheared = shear_x(cv2.transpose(image), factor, fill_rgb=fill_rgb, interpolation=interpolation)
    return cv2.transpose(sheared)


def rotate(image: np.ndarray, degrees: float, *, fill_rgb: Rgb, interpolation: Interpolation) -> np.ndarray:
    """Turns about the centre, counter-clockwise for positive degrees."""
    height, width = image.shape[:2]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # OpenCV counts from the centre of the first pixel, half a pixel in.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array(
        [
            [cos, -sin, centre_x - cos * centre_x + sin * centre_y],
            [sin, cos, centre_y - sin * centre_x - cos * centre_y],
        ]
    )
    flags = CV2_INTERPOLATION[interpolation] | cv2.WARP_INVERSE_MAP
    rotated = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    (xx, xy, x0), (yx, yy, y0) = matrix.astype(np.float32)
    source_x, source_y = xx * x + (xy * y + x0), yx * x + (yy * y + y0)
    inside_x = (source_x >= -0.5) & (source_x < width - 0.5)
    inside_y = (source_y >= -0.5) & (source_y < height - 0.5)
    return _fill_outside(rotated, inside_x & inside_y, fill_rgb=fill_rgb)


def _taps(fraction: np.ndarray, *, interpolation: Interpolation) -> np.ndarray:
    """Weights of the neighbours for positions `fraction` past a pixel, float32 [taps, positions].

    Pillow's transform has a cubic kernel with a = -1, unlike its resize.
    """
    t = fraction.astype(np.float32)
    if interpolation == "bilinear":
        return np.stack([1 - t, t])
    return np.stack([((2 - t) * t - 1) * t, (t - 2) * t * t + 1, ((1 - t) * t + 1) * t, (t - 1) * t * t])


def _filter_rows(image: np.ndarray, starts: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filters row y with taps[:, y] on the columns starts[y], starts[y] + 1, ...; truncates to uint8."""
    height, width = image.shape[:2]
    shifted = _shifted_rows(image, starts, columns=width + len(taps) - 1)
    total = np.full((height, 3 * width), np.float32(_TRUNCATION_GUARD))
    product = np.empty_like(total)
    for offset, tap in enumerate(taps):
        total += np.multiply(shifted[:, 3 * offset : 3 * (offset + width)], tap[:, None], out=product)
    return np.clip(total, 0, 255, out=total).astype(np.uint8).reshape(image.shape)


def _shifted_rows(image: np.ndarray, starts: np.ndarray, *, columns: int) -> np.ndarray:
    """Row y from column starts[y] on, edges repeated, as float32 [height, 3 * columns]."""
    height, width = image.shape[:2]
    left = max(0, -int(starts.min()))
    right = max(0, int(starts.max()) + columns - width)
    padded = cv2.copyMakeBorder(image, 0, 0, left, right, cv2.BORDER_REPLICATE)
    windows = np.lib.stride_tricks.sliding_window_view(padded.reshape(-1), 3 * columns)
    return windows[3 * (np.arange(height) * padded.shape[1] + left + starts)].astype(np.float32)


def _fill_outside(image: np.ndarray, inside: np.ndarray, *, fill_rgb: Rgb) -> np.ndarray:
    return cv2.copyTo(image, inside.view(np.uint8), _filled(image.shape, fill_rgb))


def _filled(shape: tuple[int, ...], fill_rgb: Rgb) -> np.ndarray:
    height, width, channels = shape
    row = np.tile(np.array(fill_rgb, np.uint8), width)
    return np.tile(row, height).reshape(height, width, channels)
