"""Find images that are nearly the same and stand in several roles: what is learned from, and what is graded on."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.rows import read_image
from semivit_jax.data.sources.image_set import ImageSet

SIDE = 16  # pixels of the thumbnails that are compared
ALIKE = 0.99  # correlation of their pixels from which two images count as nearly the same
_CHUNK = 2048  # images compared with all others at a time


class Pair(NamedTuple):
    """An image of the first set, its twin in the second one, and the correlation of their pixels."""

    first: int
    second: int
    correlation: float


def thumbnails(images: ImageSet, places: Sequence[int] | np.ndarray, data: DataConfig) -> np.ndarray:
    """Pixels of small views, float32 [n, 16 * 16 * 3], each with mean 0 and length 1; 0 where there is no contrast."""
    found = np.zeros((len(places), SIDE * SIDE * 3), np.float32)
    for row, place in enumerate(places):
        image = read_image(images, int(place), data, path="pillow")
        if not isinstance(image, BadRecord):
            found[row] = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
    found -= found.mean(axis=1, keepdims=True)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(length > 1, length, np.inf)


def pairs(first: np.ndarray, second: np.ndarray, *, alike: float) -> list[Pair]:
    """For each of the first set's thumbnails its nearest one of the second, where these are alike; the surest first."""
    if not len(second):
        return []
    found = []
    for start in range(0, len(first), _CHUNK):
        correlation = first[start : start + _CHUNK] @ second.T
        nearest = correlation.argmax(axis=1)
        for row, place in enumerate(nearest):
            if (value := float(correlation[row, place])) >= alike:
                found.append(Pair(start + row, int(place), min(value, 1.0)))
    return sorted(found, key=lambda pair: -pair.correlation)
