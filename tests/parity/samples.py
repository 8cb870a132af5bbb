"""Comparing our draws with recorded ones."""

import numpy as np


def two_sample_distance(a, b):
    """The Kolmogorov-Smirnov statistic: the largest difference of the two distribution functions."""
    at = np.concatenate([a, b])
    share = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return np.abs(share[0] - share[1]).max()
