"""Define the types that host-side image functions share; images are uint8 RGB [height, width, 3]."""

from typing import Literal

ImagePath = Literal["pillow", "fast"]
"""Which implementation transforms images: `pillow` is exact, `fast` (vector code, tables) is for training."""

Interpolation = Literal["bicubic", "bilinear"]
"""Kernel of resizing and of the geometric operators."""

Rgb = tuple[int, int, int]
"""A colour, each channel 0 to 255."""
