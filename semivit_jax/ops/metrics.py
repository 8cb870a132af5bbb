"""Add metrics as sums and counts over micro-steps, batches and hosts; divide once."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np


class Mean(NamedTuple):
    """A weighted mean that has not been divided yet; total and count broadcast against each other."""

    total: jax.Array | np.ndarray | float
    count: jax.Array | np.ndarray | float


Metrics = dict[str, Mean]


def of(value: jax.Array | float) -> Mean:
    """A single value."""
    return Mean(value, 1.0)


def over(values: jax.Array, weights: jax.Array) -> Mean:
    """Mean of `values` weighted by `weights`, both (batch,)."""
    return Mean((values * weights).sum(), weights.sum())


def compute(metrics: Mapping[str, Mean]) -> dict[str, float]:
    """Divides; leading axes (micro-steps) are summed first. An empty mean is 0, as published."""
    totals = {k: (np.sum(np.asarray(m.total)), np.sum(np.asarray(m.count))) for k, m in metrics.items()}
    return {k: float(total / count) if count else 0.0 for k, (total, count) in totals.items()}


def add(a: Mapping[str, Mean], b: Mapping[str, Mean]) -> Metrics:
    """Adds sums and counts of two sets of metrics with the same names."""
    return {k: Mean(a[k].total + b[k].total, a[k].count + b[k].count) for k in a}
