"""Warp images for RandAugment (shear, shift, rotate) fast, nearly equal to Pillow.

Shears and translations move rows or columns by a fraction of a pixel, so they are one-dimensional filters;
they use Pillow's own kernel and differ by single steps of rounding. Rotation is OpenCV's warp, whose kernel
differs. All take uint8 [height, width, 3] and show `fill_rgb` where the pixel centre came from outside.
Coordinates are those of Pillow: output (x, y) reads the given input position, both counted from the top-
left corner of the image.
"""

import math

import cv2
import numpy as np

from semivit_jax.data.images.fast_ops import row_strips
from semivit_jax.data.images.types import Interpolation, Rgb

# Pillow truncates where OpenCV rounds. The small remainder keeps sums that should be whole numbers (flat
# areas) from falling just below them.
_TRUNCATION_GUARD = 1e-3
_SHARPEN = np.array([-0.05, 1.1, -0.05], np.float32)


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
    sheared = cv2.transpose(_shift_rows(image, shift, interpolation=interpolation))
    # Column x shows the image where 0 <= x + 0.5 + shift < width.
    columns = np.arange(width, dtype=np.int16)
    first, last = (np.ceil(edge - 0.5 - shift).astype(np.int16)[:, None] for edge in (0, width))
    return _fill_outside(sheared, (columns >= first) & (columns < last), fill_rgb=fill_rgb)


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
    rotated = _warp(image, matrix, interpolation=interpolation)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    (xx, xy, x0), (yx, yy, y0) = matrix.astype(np.float32)
    source_x, source_y = xx * x + (xy * y + x0), yx * x + (yy * y + y0)
    inside_x = (source_x >= -0.5) & (source_x < width - 0.5)
    inside_y = (source_y >= -0.5) & (source_y < height - 0.5)
    return _fill_outside(rotated, inside_x & inside_y, fill_rgb=fill_rgb)


def _warp(image: np.ndarray, matrix: np.ndarray, *, interpolation: Interpolation) -> np.ndarray:
    """Output (x, y) reads input matrix @ (x, y, 1), counted from the centre of the first pixel.

    For `bicubic` the image is sharpened a little, enlarged twofold and read bilinearly: as near to Pillow as
    OpenCV's bicubic warp, in half its time. A fourth channel makes OpenCV's bilinear warp twice as fast.
    """
    height, width = image.shape[:2]
    if interpolation == "bicubic":
        image = cv2.sepFilter2D(image, -1, _SHARPEN, _SHARPEN, borderType=cv2.BORDER_REPLICATE)
    image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    if interpolation == "bicubic":
        image = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        matrix = 2 * matrix + [[0, 0, 0.5], [0, 0, 0.5]]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def _taps(fraction: np.ndarray, *, interpolation: Interpolation) -> np.ndarray:
    """Weights of the neighbours for positions `fraction` past a pixel, float32 [taps, positions].

    Pillow's transform has a cubic kernel with a = -1, unlike its resize.
    """
    t = fraction.astype(np.float32)
    if interpolation == "bilinear":
        return np.stack([1 - t, t])
    return np.stack([((2 - t) * t - 1) * t, (t - 2) * t * t + 1, ((1 - t) * t + 1) * t, (t - 1) * t * t])


def _shift_rows(image: np.ndarray, shift: np.ndarray, *, interpolation: Interpolation) -> np.ndarray:
    """Row y moved left by shift[y] pixels, edges repeated; transposed, uint8 [width, height, 3].

    Rows become columns because numpy multiplies by one weight per column faster than by one per row. The arithmetic
    is 16 bit: pixels less 128 times weights in 128ths, whose magnitudes sum up to at most 1.5.
    """
    height, width = image.shape[:2]
    whole = np.floor(shift).astype(np.int64)
    taps = _taps(shift - whole, interpolation=interpolation)
    weights = np.rint(128 * taps).astype(np.int16)
    weights[len(taps) // 2 - 1] += 128 - weights.sum(axis=0, dtype=np.int16)  # flat areas stay flat
    weights = np.repeat(weights, 3, axis=1)
    aligned = _aligned_rows(image, whole - (len(taps) // 2 - 1), columns=width + len(taps) - 1)
    source = np.bitwise_xor(cv2.transpose(aligned), np.uint8(128)).view(np.int8).reshape(-1, 3 * height)
    moved = np.empty((width, 3 * height), np.int8)
    for strip in row_strips(width, 2 * 3 * height):
        count = len(moved[strip])
        pixels = source[strip.start : strip.start + count + len(taps) - 1].astype(np.int16)
        total = pixels[:count] * weights[0]
        product = np.empty_like(total)
        for offset in range(1, len(taps)):
            total += np.multiply(pixels[offset : offset + count], weights[offset], out=product)
        total >>= 7  # rounds down, as Pillow does
        moved[strip] = np.clip(total, -128, 127, out=total)
    return (moved.view(np.uint8) ^ np.uint8(128)).reshape(width, height, 3)


def _aligned_rows(image: np.ndarray, starts: np.ndarray, *, columns: int) -> np.ndarray:
    """Row y from column starts[y] on, edges repeated, uint8 [height, columns, 3]."""
    height, width = image.shape[:2]
    left = max(0, -int(starts.min()))
    right = max(0, int(starts.max()) + columns - width)
    padded = cv2.copyMakeBorder(image, 0, 0, left, right, cv2.BORDER_REPLICATE)
    windows = np.lib.stride_tricks.sliding_window_view(padded.reshape(-1), 3 * columns)
    return windows[3 * (np.arange(height) * padded.shape[1] + left + starts)].reshape(height, columns, 3)


def _fill_outside(image: np.ndarray, inside: np.ndarray, *, fill_rgb: Rgb) -> np.ndarray:
    return cv2.copyTo(image, inside.view(np.uint8), _filled(image.shape, fill_rgb))


def _filled(shape: tuple[int, ...], fill_rgb: Rgb) -> np.ndarray:
    height, width, channels = shape
    row = np.tile(np.array(fill_rgb, np.uint8), width)
    return np.tile(row, height).reshape(height, width, channels)
