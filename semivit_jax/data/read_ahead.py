"""Read blocks of rows ahead, in threads or worker processes, always in order."""

import contextlib
import math
import os
from collections.abc import Generator
from multiprocessing import resource_tracker
from typing import Any, Protocol

import grain
from absl import flags

from semivit_jax.hosts import stopping

_BLOCK_IMAGES = 16  # images that one thread reads one after the other: some 50 ms of work, a few MB


Reading = Generator[Any, None, None] | grain.DatasetIterator[Any]  # both can be closed


class Blocks(Protocol):
    """Random access to blocks; can be pickled when worker processes read them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


def num_blocks(rows: int, *, images: int) -> int:
    """Into how many equal blocks to cut `rows` rows that hold `images` images."""
    wanted = math.ceil(images / _BLOCK_IMAGES)
    return next((count for count in range(wanted, rows) if rows % count == 0), rows)


def read_ahead(source: Blocks, *, start: int, ahead: int, threads: int, workers: int) -> Reading:
    """The blocks from `start` on.

    Args:
      source: the blocks.
      start: first block.
      ahead: blocks kept ready.
      threads: reading threads in all; 0 is one per core.
      workers: reading processes, which share the threads; 0 reads in this process.
    """
    threads = threads or os.cpu_count() or 1
    per_process = math.ceil(threads / max(workers, 1))
    dataset = grain.MapDataset.source(source)[start:].to_iter_dataset(
        grain.ReadOptions(num_threads=per_process, prefetch_buffer_size=max(ahead, per_process))
    )
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain 0.2.18 reads a flag first (google/grain#1355)
        buffer = math.ceil(ahead / workers)
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer))
    return _from_workers(dataset) if workers else iter(dataset)


def _from_workers(dataset: grain.IterDataset[Any]) -> Generator[Any, None, None]:
    """The blocks; the workers, which start with the first one, leave Ctrl-C to this process."""
    resource_tracker.ensure_running()  # which lets its starter hear Ctrl-C again
    with contextlib.ExitStack() as stack:
        with stopping.left_to_parent():  # threads that are made here may start the workers
            blocks = stack.enter_context(contextlib.closing(iter(dataset)))
            first = next(blocks)
        yield first
        yield from blocks
