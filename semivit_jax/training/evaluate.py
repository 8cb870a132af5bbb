"""Exact evaluation: padded, masked batches, sums added over batches and hosts, divided once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from semivit_jax.ops import metrics
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.training import sharding

PyTree = Any


def evaluate(
    eval_step: Callable[[PyTree, PyTree], Metrics], params: PyTree, batches: Iterable[PyTree], *, mesh: Any
) -> dict[str, float]:
    """Metrics of `params` over all batches: the means of `sums`, {name: mean over every real image exactly once}."""
    return metrics.compute(sums(eval_step, params, batches, mesh=mesh))


def sums(
    eval_step: Callable[[PyTree, PyTree], Metrics], params: PyTree, batches: Iterable[PyTree], *, mesh: Any
) -> Metrics:
    """Totals and counts of every metric over all batches, in float64.

    Args:
      eval_step: jitted, (params, batch) -> metrics summed over the global batch.
      params: as the step takes them.
      batches: this host's rows, leaves [rows, ...], with a 'mask' of 1 for real images; every host
        yields the same number of batches.
      mesh: devices the batches are spread over.
    """
    spread, total = sharding.eval_batch(mesh), None
    for batch in batches:
        found = jax.device_get(eval_step(params, sharding.put(batch, spread)))
        # float64 on the host: sums over a million images stay exact.
        found = {k: Mean(np.float64(m.total), np.float64(m.count)) for k, m in found.items()}
        total = found if total is None else metrics.add(total, found)
    if total is None:
        raise ValueError("there is no batch to evaluate")
    return total
