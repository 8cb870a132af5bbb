"""Resize with antialiasing for training: Pillow's algorithm in the Rust fast_image_resize.

Kernels and the way they widen are Pillow's; weights have fewer bits, so that pixels differ by single steps. Measured
numbers: docs/decisions/0003-input-path.md.
"""

import platform

import numpy as np

from semivit_jax.data.images.types import Interpolation

# The package has no wheel for Linux on Arm, see setup.py.
AVAILABLE = platform.machine() != "aarch64"
if AVAILABLE:
    from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    _OPTIONS = {
        "bicubic": ResizeOptions(ResizeAlg.convolution(FilterType.catmull_rom)),  # cubic, a = -0.5
        "bilinear": ResizeOptions(ResizeAlg.convolution(FilterType.bilinear)),
    }


def resize(image: np.ndarray, *, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
    """Resizes uint8 [h, w, 3] to [height, width, 3] with antialiasing; the result is read-only."""
    source = ImageData(image.shape[1], image.shape[0], PixelType.U8x3, image.tobytes())
    target = ImageData(width, height, PixelType.U8x3)
    # A resizer serves one thread at a time, and one is made in a microsecond.
    Resizer().resize(source, target, _OPTIONS[interpolation])
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)
