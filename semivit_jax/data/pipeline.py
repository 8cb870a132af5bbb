"""Make training batches: endless, resumable, the same for any number of hosts, threads and workers.

Update t, micro-step m, host p, local row i reads stream row (t * accum + m) * B + p * b + i, where B images
are one global micro-batch and b = B / hosts. Rows are read in blocks of a few images: grain reads blocks
ahead in threads or worker processes and keeps their order, and a batch joins the blocks of one update.
"""

import dataclasses
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data import bank
from semivit_jax.data.bad_records import BadRecordCount
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.feature_rows import FeatureRows, FeatureTable
from semivit_jax.data.images.views import path_of, views_of
from semivit_jax.data.order import HostRows, StreamOrder
from semivit_jax.data.read_ahead import num_blocks, read_ahead
from semivit_jax.data.rows import (
    DecodedSet,
    DecodeRows,
    MemoryRows,
    RowReader,
    Rows,
    StreamImages,
    decode_all,
    fits_in_memory,
    label_of,
)
from semivit_jax.plan import Plan, Stream, as_batch


@dataclasses.dataclass(frozen=True)
class _Part:
    """One stream's share of a batch."""

    reader: RowReader
    rows: HostRows


_BlockIterator = Generator[dict[str, Rows], None, None] | grain.DatasetIterator[dict[str, Rows]]


class TrainBatches(Iterator[dict[str, Any]]):
    """Endless batches of one host: leaves are [accum, local rows, ...], uint8 NHWC images, int32 label and image_id.

    A head on kept features has float features instead of images; for a rule that needs a bank its rows come along.

    A batch of one stream is that stream's leaves; of several it holds one dict per stream.
    """

    def __init__(self, blocks: _BlockIterator, *, blocks_per_update: int, accum: int, bad: BadRecordCount):
        self._blocks = blocks
        self._blocks_per_update = blocks_per_update
        self._accum = accum
        self._bad = bad

    @property
    def bad_records(self) -> int:
        """Records skipped so far."""
        return self._bad.total

    def __next__(self) -> dict[str, Any]:
        blocks = list(itertools.islice(self._blocks, self._blocks_per_update))
        for rows in itertools.chain.from_iterable(block.values() for block in blocks):
            self._bad.add(len(next(iter(rows.arrays.values()))), rows.bad)
        return as_batch({name: self._join([block[name] for block in blocks]) for name in blocks[0]})

    def close(self) -> None:
        """Ends threads and worker processes."""
        self._blocks.close()

    def _join(self, blocks: Sequence[Rows]) -> dict[str, np.ndarray]:
        joined = {key: np.concatenate([rows.arrays[key] for rows in blocks]) for key in blocks[0].arrays}
        return {key: array.reshape(self._accum, -1, *array.shape[1:]) for key, array in joined.items()}


def train_batches(
    task: TaskData,
    data: DataConfig,
    plan: Plan,
    *,
    seed: int,
    position: int,
    process_index: int,
    process_count: int,
    features: Mapping[str, Mapping[str, FeatureTable]] | None = None,
) -> TrainBatches:
    """Batches of one host, beginning with update `position`; starting there equals having read that far.

    Args:
      task: the images.
      data: of the config.
      plan: of the stage; says the streams, the batch and its micro-steps.
      seed: of orders and views.
      position: updates that others have read.
      process_index: of this host.
      process_count: hosts that share the batch.
      features: of every stream and leaf, which take the place of the images; None reads and decodes these.

    Raises:
      ValueError: if the batch cannot be cut into equal micro-batches per host, or a stream has too few
        images.
    """
    if plan.batch_size % (plan.accum * process_count):
        raise ValueError(
            f"batch_size {plan.batch_size} is not divisible by {plan.accum} micro-steps times {process_count} processes"
        )
    decoded = decode_all(task.train, data) if features is None and fits_in_memory(task.train, data) else None
    in_memory = features is not None or decoded is not None
    parts = {
        stream.name: _Part(
            _reader(stream, task, data, plan, seed, decoded, None if features is None else features[stream.name]),
            HostRows(plan.micro_batch * stream.per_row, process_index, process_count),
        )
        for stream in plan.streams
    }
    blocks_per_update = 1
    if not in_memory:
        local_images = plan.accum * sum(part.rows.local_rows for part in parts.values())
        blocks_per_update = num_blocks(plan.batch_size // process_count, images=local_images)
    source = _Blocks(parts, plan.accum, blocks_per_update)
    start = position * blocks_per_update
    return TrainBatches(
        _one_by_one(source, start) if in_memory else _ahead(source, start, data),
        blocks_per_update=blocks_per_update,
        accum=plan.accum,
        bad=BadRecordCount(task.train.names, max_bad_share=data.max_bad_share),
    )


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """The blocks of one host; a block holds an equal share of every stream's rows of one update."""

    parts: dict[str, _Part]
    accum: int
    blocks_per_update: int

    def __len__(self) -> int:
        return 2**62  # streams are endless

    def __getitem__(self, index: int) -> dict[str, Rows]:
        rows = {}
        for name, part in self.parts.items():
            count = part.rows.local_rows * self.accum // self.blocks_per_update
            rows[name] = part.reader.read(part.rows.stream_positions(index * count, count))
        return rows


def _reader(
    stream: Stream,
    task: TaskData,
    data: DataConfig,
    plan: Plan,
    seed: int,
    decoded: DecodedSet | None,
    features: Mapping[str, FeatureTable] | None,
) -> RowReader:
    indices = getattr(task.split, stream.images)
    _check_size(len(indices), stream, plan)
    classes = task.train.labels[indices] if stream.balanced else None
    order = StreamOrder(indices, seed, f"{plan.stage}/{stream.name}", classes)
    # Looked up here: a worker process that starts afresh may know fewer kinds of labels and views.
    told = bank.load(stream.bank, names=task.train.names, class_names=task.class_names) if stream.bank else None
    images = StreamImages(task.train, order, label_of(stream.label), stream.image_id, told)
    if features is not None:
        return FeatureRows(images, features)
    if decoded is not None:
        return MemoryRows(images, decoded)
    return DecodeRows(images, views_of(data, stream.views), data, path_of(data))


def _check_size(num_images: int, stream: Stream, plan: Plan) -> None:
    if num_images == 0:
        raise ValueError(f"stage {plan.stage!r} needs {stream.images} images, and there is none")
    per_update = plan.batch_size * stream.per_row
    if stream.sets_epoch and num_images < per_update:
        raise ValueError(
            f"stage {plan.stage!r} takes {per_update} {stream.images} images per update, and there are only "
            f"{num_images} images: lower config.{plan.stage}.batch_size, now {plan.batch_size}"
        )


def _one_by_one(source: _Blocks, start: int) -> Generator[dict[str, Rows], None, None]:
    """Blocks made when they are asked for: rows from memory cost less than handing them between threads."""
    for index in itertools.count(start):
        yield source[index]


def _ahead(source: _Blocks, start: int, data: DataConfig) -> _BlockIterator:
    return read_ahead(
        source,
        start=start,
        ahead=data.prefetch_batches * source.blocks_per_update,
        threads=data.threads,
        workers=data.workers,
    )
