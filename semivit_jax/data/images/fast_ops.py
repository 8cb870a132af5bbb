"""Apply pointwise RandAugment operators, sharpness and colour by OpenCV, equal to Pillow.

Every function equals Pillow bit for bit; the tests hold it. Images are uint8 [height, width, 3].
"""

from collections.abc import Iterator

import cv2
import numpy as np

# Images are spread over the loader's own threads; OpenCV's would only compete with them. Set on import, as
# worker processes share no other moment before their first image.
cv2.setNumThreads(1)

_VALUES = np.arange(256)
_DIFFERENCES = np.arange(1.0, 256.0)
_STRIP_BYTES = 200_000
# Blends by a whole number of these shares are exact in float32 whatever the order of operations.
FACTOR_STEP = 2.0**-12

# ITU-R 601 luma in Pillow's 16-bit fixed point, with 0.5 for rounding. Every product and sum is a multiple
# of 2^-16 below 2^8, so float32 holds it exactly, whatever the order of summation.
_LUMA = np.array([[19595, 38470, 7471, 32768]], np.float32) / 65536
_TRUNCATE = 1.2e-4 - 0.5  # added before OpenCV rounds; the remainder keeps whole numbers from falling below
_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # PIL.ImageFilter.SMOOTH


def row_strips(height: int, row_bytes: int) -> Iterator[slice]:
    """Slices of rows, small enough that wider copies (float32 or int16) of one strip stay in the cache.

    Whole float32 images (600 kB at size 224) are also large enough for the allocator to hand them back to the
    system after every use; fetching them again page by page can cost more than the arithmetic.
    """
    rows = max(1, _STRIP_BYTES // row_bytes)
    return (slice(top, top + rows) for top in range(0, height, rows))


def grey(image: np.ndarray) -> np.ndarray:
    """Luma, uint8 [height, width]."""
    luma = np.empty(image.shape[:2], np.uint8)
    for rows in row_strips(len(image), 4 * image[0].size):
        luma[rows] = cv2.transform(image[rows].astype(np.float32), _LUMA)  # the assignment truncates
    return luma


def blend(base: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """base + factor * (image - base), truncated and clipped to uint8: `PIL.Image.blend`."""
    if _rounding_decides(factor):
        return _blend_as_pillow(base, image, factor)
    return cv2.addWeighted(image, factor, base, 1 - factor, _TRUNCATE)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with black."""
    return _blend_with_constant(0, image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the rounded mean of the grey image."""
    return _blend_with_constant(int(cv2.mean(grey(image))[0] + 0.5), image, factor)


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the grey image: factor 0 is grey, 1 unchanged, more is more saturated."""
    return blend(cv2.cvtColor(grey(image), cv2.COLOR_GRAY2RGB), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with a 3 x 3 smoothing of the image, whose outermost pixels stay as they are."""
    smooth = cv2.filter2D(image, -1, _SMOOTHING)
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[border] = image[border]
    return blend(smooth, image, factor)


def _blend_with_constant(base: int, image: np.ndarray, factor: float) -> np.ndarray:
    if _rounding_decides(factor):
        values = _VALUES.astype(np.uint8)[None]
        return cv2.LUT(image, _blend_as_pillow(np.full_like(values, base), values, factor))
    offset = base * (1 - factor) + _TRUNCATE
    if offset >= _TRUNCATE:  # no value can fall below -0.5, so the absolute value changes nothing
        return cv2.convertScaleAbs(image, alpha=factor, beta=offset)
    return cv2.addWeighted(image, factor, image, 0, offset)


def _blend_as_pillow(base: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """The same blend, rounded to float32 after every operation as Pillow does."""
    blended = np.empty_like(image)
    for rows in row_strips(len(image), 4 * image[0].size):
        strip_base, strip = base[rows].astype(np.float32), image[rows].astype(np.float32)
        strip -= strip_base
        strip *= np.float32(factor)
        strip += strip_base
        blended[rows] = np.clip(strip, 0, 255, out=strip).astype(np.uint8)
    return blended


def _rounding_decides(factor: float) -> bool:
    """Whether float32 rounding can decide the floor of some blend with this factor.

    OpenCV's one-pass blend rounds in other places than Pillow. For factors up to 2 both stay within 1e-4 of the
    true value, so they can only disagree next to a whole number, that is where factor * (image - base) is next to
    one. About one random factor in eight has such a product for some difference of 1 to 255; no difference at all
    is safe, see _TRUNCATE. Multiples of FACTOR_STEP are all safe: their products are exact, and whole or at least
    one step away from it.
    """
    if factor <= 2 and (factor / FACTOR_STEP).is_integer():
        return False
    products = factor * _DIFFERENCES
    return factor > 2 or bool(np.abs(products - np.rint(products)).min() < 2.5e-4)


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches every channel to 0..255; a constant channel is left alone."""
    low, high = image.min(axis=0).min(axis=0), image.max(axis=0).max(axis=0)
    scale = 255.0 / np.maximum(1, high - low)
    stretched = np.clip((_VALUES[:, None] * scale - low * scale).astype(np.int64), 0, 255)
    tables = np.where(high > low, stretched, _VALUES[:, None])
    return cv2.LUT(image, tables.astype(np.uint8)[None])


def equalize(image: np.ndarray) -> np.ndarray:
    """Flattens the histogram of every channel; a constant channel is left alone."""
    tables = np.empty((1, 256, 3), np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        tables[0, :, channel] = _equalizing_table(counts)
    return cv2.LUT(image, tables)


def invert(image: np.ndarray) -> np.ndarray:
    """255 - value."""
    return cv2.bitwise_not(image)


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
    """Keeps the highest `bits` bits (0 to 8) of every value; 0 bits are black."""
    return cv2.LUT(image, (_VALUES & (0xFF00 >> int(bits))).astype(np.uint8))


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Inverts the values at or above `threshold` (0 to 256)."""
    return cv2.LUT(image, np.where(int(threshold) <= _VALUES, 255 - _VALUES, _VALUES).astype(np.uint8))


def solarize_add(image: np.ndarray, addend: float) -> np.ndarray:
    """Adds `addend` to the values below 128, up to 255."""
    table = np.where(_VALUES < 128, np.minimum(255, _VALUES + int(addend)), _VALUES)
    return cv2.LUT(image, table.astype(np.uint8))


def _equalizing_table(counts: np.ndarray) -> np.ndarray:
    present = counts[counts > 0]
    step = (present.sum() - present[-1]) // 255
    if step == 0:  # constant, or too few pixels
        return _VALUES
    pixels_below = np.cumsum(counts) - counts
    return np.minimum(255, (step // 2 + pixels_below) // step)
