"""Evaluate exactly: padded, masked batches; every real image counts once over all hosts."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from semivit_jax.config import Config
from semivit_jax.data.eval_pipeline import EvalBatches, eval_batches
from semivit_jax.data.rows import DecodedSet
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.ops import metrics
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.training import sharding

PyTree = Any


def batches_of(
    images: ImageSet,
    config: Config,
    *,
    label: str,
    num_devices: int,
    decoded: DecodedSet | None = None,
    rows: int | None = None,
) -> EvalBatches:
    """This host's batches of a set of images with a kind of label, for as many passes as there are.

    `decoded` is what of the images is in memory already; `rows` are those of a batch, None those of `eval_rows`.
    """
    return eval_batches(
        images,
        config.data,
        label=label,
        batch_size=rows or eval_rows(config, len(images), num_devices),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        decoded=decoded,
    )


def eval_rows(config: Config, num_images: int, num_devices: int) -> int:
    """Rows of a batch of evaluation on all hosts: the config's, or the images where they are fewer, on full devices."""
    return -(-min(config.train.eval_batch_size, max(num_images, 1)) // num_devices) * num_devices


def evaluate(
    eval_step: Callable[[PyTree, PyTree], Metrics],
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    grade: Callable[[Metrics], dict[str, float]],
    mesh: Any,
) -> dict[str, float]:
    """What `grade` makes of the `sums` over all batches."""
    return grade(sums(eval_step, params, batches, mesh=mesh))


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
        found = on_host(eval_step(params, sharding.put(batch, spread)))
        total = found if total is None else metrics.add(total, found)
    if total is None:
        raise ValueError("there is no batch to evaluate")
    return total


def on_host(found: Metrics) -> Metrics:
    """The same in float64, in which sums over a million images stay exact."""
    return {k: Mean(np.float64(m.total), np.float64(m.count)) for k, m in jax.device_get(found).items()}
