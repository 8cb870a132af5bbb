"""Antialiased resizing for training, close to Pillow's at about a fifth of its cost.

OpenCV's bicubic resize is fast but has another kernel (a = -0.75 where Pillow has -0.5) and does not widen
it when an image shrinks. Both are mended by filtering the source first: the taps of a short symmetric
filter are fitted so that filter and OpenCV kernel together come nearest, in least squares, to the kernel
Pillow uses at that scale. Measured numbers: docs/decisions/0003-input-path.md.
"""

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from semivit_jax.data.image_types import Interpolation

# Images are spread over the loader's own threads; OpenCV's would only compete with them. Set on import, as
# worker processes share no other moment before their first image.
cv2.setNumThreads(1)

_LARGEST_FILTERED_SCALE = 2.5  # beyond twice this, whole source pixels are averaged first
_SAMPLES_PER_PIXEL = 32  # of the kernels, in the fit

CV2_INTERPOLATION = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}


def resize(image: np.ndarray, *, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
    """Resizes uint8 [h, w, 3] to [height, width, 3] with antialiasing."""
    scales = (image.shape[0] / height, image.shape[1] / width)
    step_y, step_x = (max(1, int(scale / _LARGEST_FILTERED_SCALE)) for scale in scales)
    size: dict[str, Any] = {"dsize": (width, height)}
    if step_y > 1 or step_x > 1:
        # The averaged image stands for up to one step more than the source; the exact ratios leave that out.
        size = {"dsize": None, "fx": width * step_x / image.shape[1], "fy": height * step_y / image.shape[0]}
        image = _average_blocks(image, step_y, step_x)
    taps_x = fit_prefilter(image.shape[1], width, interpolation=interpolation)
    taps_y = fit_prefilter(image.shape[0], height, interpolation=interpolation)
    image = cv2.sepFilter2D(image, -1, taps_x, taps_y, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(image, **size, interpolation=CV2_INTERPOLATION[interpolation])


def _average_blocks(image: np.ndarray, step_y: int, step_x: int) -> np.ndarray:
    """Means of blocks of step_y x step_x pixels; the last whole ones stand for what is left of a block.

    Brings a much larger image near a few times the wanted size, where a short filter is enough. Whole blocks are
    averaged fifteen times faster than fractions of pixels.
    """
    height, width = image.shape[:2]
    whole = image[: height - height % step_y, : width - width % step_x]
    means = cv2.resize(whole, (width // step_x, height // step_y), interpolation=cv2.INTER_AREA)
    below, right = int(height % step_y > 0), int(width % step_x > 0)
    return cv2.copyMakeBorder(means, 0, below, 0, right, cv2.BORDER_REPLICATE)


@lru_cache(maxsize=8192)
def fit_prefilter(source_size: int, size: int, *, interpolation: Interpolation) -> np.ndarray:
    """Taps b that minimise the integral of (sum_j b_j K(x - j) - P(x / s) / s)^2 with sum_j b_j = 1.

    K is OpenCV's kernel, P Pillow's, s = max(1, source_size / size) the widening that antialiasing asks for.

    Returns:
      float32 [2 r + 1], symmetric; the radius r grows with s.
    """
    scale = max(1.0, source_size / size)
    radius = 2 if scale <= 2 else math.ceil(1.25 * scale)  # shorter ones are faster, and further from Pillow
    reach = math.ceil(2 * scale) + radius + 2
    x = np.arange(-reach * _SAMPLES_PER_PIXEL, reach * _SAMPLES_PER_PIXEL + 1) / _SAMPLES_PER_PIXEL
    if interpolation == "bicubic":
        kernel, wanted = (lambda t: cubic_kernel(t, a=-0.75)), cubic_kernel(x / scale, a=-0.5) / scale
    else:
        kernel, wanted = linear_kernel, linear_kernel(x / scale) / scale
    basis = np.stack([kernel(x)] + [kernel(x - j) + kernel(x + j) for j in range(1, radius + 1)], axis=1)
    tap_counts = np.array([1.0] + [2.0] * radius)  # every tap but the middle one stands on both sides
    # Normal equations with one Lagrange multiplier for the sum.
    system = np.block([[basis.T @ basis, tap_counts[:, None]], [tap_counts[None, :], np.zeros((1, 1))]])
    half = np.linalg.solve(system, np.append(basis.T @ wanted, 1.0))[:-1]
    return np.concatenate([half[:0:-1], half]).astype(np.float32)


def cubic_kernel(x: np.ndarray, *, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981, equation 15 with free a), zero beyond 2."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def linear_kernel(x: np.ndarray) -> np.ndarray:
    """The triangle of bilinear interpolation, zero beyond 1."""
    return np.maximum(0.0, 1.0 - np.abs(x))
