"""Batches for training: endless, resumable, and the same for every number of hosts, threads and workers.

Update t, micro-step m, host p, local row i reads stream row (t * accum + m) * B + p * b + i, where B images
are one global micro-batch and b = B / hosts. Rows are read in blocks of a few images: grain reads blocks
ahead in threads or worker processes and keeps their order, and a batch joins the blocks of one update.
"""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecordCount
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.images import host_views
from semivit_jax.data.order import HostRows, Stream
from semivit_jax.data.read_ahead import num_blocks, read_ahead
from semivit_jax.data.rows import DecodeRows, MemoryRows, RowReader, Rows, decode_all, fits_in_memory


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """What a stage asks of the pipeline."""

    stage: str  # 'mae', 'finetune' or 'semi'
    batch_size: int  # images per update over all hosts (semi: labeled ones)
    unlabeled_ratio: int  # semi: unlabeled images per labeled one
    accum: int  # micro-steps per update
    seed: int


@dataclasses.dataclass(frozen=True)
class _Part:
    """One stream's share of a batch."""

    reader: RowReader
    rows: HostRows


_BlockIterator = Generator[dict[str, Rows], None, None] | grain.DatasetIterator[dict[str, Rows]]


class TrainBatches(Iterator[dict[str, Any]]):
    """Endless batches of one host: leaves are [accum, local rows, ...], uint8 NHWC images and int32 labels.

    mae gives {image}, finetune {image, label}, semi {labeled: {image, label}, unlabeled: {weak, strong,
    label}}. With affine views, which are made on the device, the unlabeled images are {image, label}.
    Labels that are not known are -1.
    """

    def __init__(
        self,
        blocks: _BlockIterator,
        *,
        blocks_per_update: int,
        stage: str,
        accum: int,
        bad: BadRecordCount,
    ):
        self._blocks = blocks
        self._blocks_per_update = blocks_per_update
        self._stage = stage
        self._accum = accum
        self._bad = bad

    @property
    def bad_records(self) -> int:
        """Records passed over so far."""
        return self._bad.total

    def __next__(self) -> dict[str, Any]:
        blocks = list(itertools.islice(self._blocks, self._blocks_per_update))
        for rows in itertools.chain.from_iterable(block.values() for block in blocks):
            self._bad.add(len(rows.arrays["label"]), rows.bad)
        streams = {name: self._join([block[name] for block in blocks]) for name in blocks[0]}
        match self._stage:
            case "mae":
                return {"image": streams["training"]["image"]}
            case "finetune":
                return streams["labeled"]
            case _:
                return streams

    def close(self) -> None:
        """Ends threads and worker processes."""
        self._blocks.close()

    def _join(self, blocks: Sequence[Rows]) -> dict[str, np.ndarray]:
        joined = {key: np.concatenate([rows.arrays[key] for rows in blocks]) for key in blocks[0].arrays}
        return {key: array.reshape(self._accum, -1, *array.shape[1:]) for key, array in joined.items()}


def train_batches(
    task: TaskData,
    data: DataConfig,
    spec: BatchSpec,
    *,
    position: int,
    process_index: int,
    process_count: int,
) -> TrainBatches:
    """Batches of one host, beginning with update `position`; starting there equals having read that far.

    Raises:
      ValueError: if the batch cannot be cut into equal micro-batches per host, or a stream has too few
        images.
    """
    if spec.batch_size % (spec.accum * process_count):
        raise ValueError(
            f"batch_size {spec.batch_size} is not divisible by {spec.accum} micro-steps times {process_count} processes"
        )
    in_memory = fits_in_memory(task.train, data)
    reader_of = _memory_readers(task, data) if in_memory else _decoding_readers(task, data, spec.stage)
    parts = {}
    for name, (indices, images_per_row) in _streams(task, spec).items():
        _check_size(len(indices), spec.batch_size * images_per_row, name, spec)
        stream = Stream(indices, spec.seed, f"{spec.stage}/{name}")
        rows = HostRows(spec.batch_size // spec.accum * images_per_row, process_index, process_count)
        parts[name] = _Part(reader_of(name, stream), rows)
    blocks_per_update = 1
    if not in_memory:
        local_images = spec.accum * sum(part.rows.local_rows for part in parts.values())
        blocks_per_update = num_blocks(spec.batch_size // process_count, images=local_images)
    source = _Blocks(parts, spec.accum, blocks_per_update)
    start = position * blocks_per_update
    return TrainBatches(
        _one_by_one(source, start) if in_memory else _ahead(source, start, data),
        blocks_per_update=blocks_per_update,
        stage=spec.stage,
        accum=spec.accum,
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


def _check_size(num_images: int, per_update: int, name: str, spec: BatchSpec) -> None:
    if num_images == 0:
        raise ValueError(f"stage {spec.stage!r} needs {name} images, and there is none")
    # Labeled images are few by nature and may stand in a batch more than once; the others must fill one.
    if name != "labeled" and num_images < per_update:
        raise ValueError(
            f"stage {spec.stage!r} takes {per_update} {name} images per update, and there are only "
            f"{num_images} images: lower config.{spec.stage}.batch_size, now {spec.batch_size}"
        )


def _memory_readers(task: TaskData, data: DataConfig) -> Callable[[str, Stream], RowReader]:
    decoded = decode_all(task.train, data)
    return lambda _, stream: MemoryRows(decoded, task.train.labels, stream)


def _decoding_readers(task: TaskData, data: DataConfig, stage: str) -> Callable[[str, Stream], RowReader]:
    return lambda name, stream: DecodeRows(
        task.train, stream, host_views.view_of(data, stage=stage, stream=name), data, host_views.path_of(data)
    )


def _one_by_one(source: _Blocks, start: int) -> Generator[dict[str, Rows], None, None]:
    """Blocks made when they are asked for: rows from memory cost less than handing them between threads."""
    for index in itertools.count(start):
        yield source[index]


def _ahead(source: _Blocks, start: int, data: DataConfig) -> grain.DatasetIterator[dict[str, Rows]]:
    return read_ahead(
        source,
        start=start,
        ahead=data.prefetch_batches * source.blocks_per_update,
        threads=data.threads,
        workers=data.workers,
    )


def _streams(task: TaskData, spec: BatchSpec) -> dict[str, tuple[np.ndarray, int]]:
    """Images of each stream of a stage, and how many of them stand beside one image of `batch_size`."""
    match spec.stage:
        case "mae":
            return {"training": (task.split.training, 1)}
        case "finetune":
            return {"labeled": (task.split.labeled, 1)}
        case "semi":
            return {
                "labeled": (task.split.labeled, 1),
                "unlabeled": (task.split.unlabeled, spec.unlabeled_ratio),
            }
    raise ValueError(f"stage is {spec.stage!r}; legal values: mae, finetune, semi")
