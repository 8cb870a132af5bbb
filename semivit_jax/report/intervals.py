"""Say how far a share of right answers may be off: Wilson's interval, and the difference of two classifiers."""

import math
from typing import NamedTuple

import numpy as np

Z = 1.959964  # of the normal distribution, for 95 %


class Interval(NamedTuple):
    """Ends of a 95 % interval of a share, in 0..1."""

    low: float
    high: float


def wilson(share: float, count: int) -> Interval:
    """The interval of a share of `count` independent images (Wilson 1927); of none, everything.

    It holds for small counts and shares near 0 and 1, where the usual one is too narrow.
    """
    if not count:
        return Interval(0.0, 1.0)
    square = Z * Z / count
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return Interval(max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square)))


def paired(first: np.ndarray, second: np.ndarray) -> Interval:
    """The interval of the second's accuracy minus the first's on the same images.

    By the normal approximation for paired answers (Agresti 2013, "Categorical Data Analysis", section 11.1): only
    images that one of them gets right and the other wrong tell them apart. One such image more of either kind keeps
    the interval from vanishing where there is none.

    Args:
      first, second: bool [n], which images each gets right.
    """
    count = len(first)
    gained, lost = int((second & ~first).sum()) + 1, int((first & ~second).sum()) + 1
    difference = (gained - lost) / count
    half = Z * math.sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / count)) / count
    return Interval(difference - half, difference + half)
