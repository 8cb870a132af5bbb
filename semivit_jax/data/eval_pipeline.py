"""Make batches for evaluation: padded and masked, every image exactly once over all hosts."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecord, BadRecordCount
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.images.views import FixedView, eval_view_of
from semivit_jax.data.order import HostRows
from semivit_jax.data.read_ahead import num_blocks, read_ahead
from semivit_jax.data.rows import Arrays, DecodedSet, LabelOf, Rows, decode_all, fits_in_memory, label_of, read_image
from semivit_jax.data.sources.image_set import ImageSet


class EvalBatches:
    """The batches of one host, in the order of the set; iterate as often as you like.

    Each is {image: uint8 [b, size, size, 3], label: int32 [b, ...], mask: float32 [b]}; mask is 0 in padding rows
    and for images that cannot be read, whose rows are black with label -1. Every host has the same number of
    batches. What is decoded already has the shape and type that it has.
    """

    def __init__(
        self,
        images: ImageSet,
        data: DataConfig,
        rows: HostRows,
        label: LabelOf | None,
        decoded: DecodedSet | None = None,
    ):
        self._images = images
        self._data = data
        self._rows = rows
        self._label = label
        self._decoded = decoded
        self._named: set[int] = set()  # bad images that have been logged

    def __len__(self) -> int:
        return math.ceil(len(self._images) / self._rows.global_rows)

    def __iter__(self) -> Iterator[Arrays]:
        # The share of bad records is that of this evaluation: each one starts to count anew.
        bad = BadRecordCount(
            self._images.names,
            max_bad_share=self._data.max_bad_share,
            num_records=self._num_local_images(),
            logged=self._named,
        )
        if self._decoded is None and fits_in_memory(self._images, self._data):
            self._decoded = decode_all(self._images, self._data)
        view = eval_view_of(self._data)
        local_rows = self._rows.local_rows
        per_batch = num_blocks(local_rows, images=local_rows) if self._decoded is None else 1
        source = _EvalBlocks(
            self._images, self._data, view, self._label, self._rows, self._decoded, per_batch, len(self)
        )
        if self._decoded is None:
            # Threads only: starting worker processes takes seconds, each time.
            blocks = read_ahead(source, start=0, ahead=self._data.prefetch_batches * per_batch,
                                threads=self._data.threads, workers=0)  # fmt: skip
        else:
            blocks = (source[block] for block in range(len(source)))
        try:
            for _ in range(len(self)):
                parts = [next(blocks) for _ in range(per_batch)]
                for part in parts:
                    bad.add(int(part.arrays["mask"].sum()), part.bad)
                yield {key: np.concatenate([part.arrays[key] for part in parts]) for key in parts[0].arrays}
        finally:
            blocks.close()

    def _num_local_images(self) -> int:
        """Images that this host reads, without padding."""
        positions = self._rows.stream_positions(0, len(self) * self._rows.local_rows)
        return int((positions < len(self._images)).sum())


def eval_batches(
    images: ImageSet,
    data: DataConfig,
    *,
    label: str,
    batch_size: int,
    process_index: int,
    process_count: int,
    decoded: DecodedSet | None = None,
) -> EvalBatches:
    """Evaluation batches of one host.

    Args:
      images: the set.
      data: of the config.
      label: kind of the leaf 'label', a row of LABELS; '' leaves it out.
      batch_size: images of all hosts.
      process_index: of this host.
      process_count: hosts that share the batch.
      decoded: all images, or features in their place, where they are in memory already.

    Raises:
      ValueError: if `batch_size` is not divisible by `process_count`.
    """
    return EvalBatches(images, data, HostRows(batch_size, process_index, process_count), label_of(label), decoded)


@dataclasses.dataclass(frozen=True)
class _EvalBlocks:
    """Random access to equal blocks of this host's rows, padding included."""

    images: ImageSet
    data: DataConfig
    view: FixedView
    label: LabelOf | None
    rows: HostRows
    decoded: DecodedSet | None
    blocks_per_batch: int
    num_batches: int

    def __len__(self) -> int:
        return self.num_batches * self.blocks_per_batch

    def __getitem__(self, index: int) -> Rows:
        count = self.rows.local_rows // self.blocks_per_batch
        positions = self.rows.stream_positions(index * count, count)
        size, decoded = self.data.image_size, self.decoded
        shape, dtype = (
            ((size, size, 3), np.uint8) if decoded is None else (decoded.images.shape[1:], decoded.images.dtype)
        )
        image = np.zeros((count, *shape), dtype)
        mask = np.zeros(count, np.float32)
        bad = []
        for row in np.flatnonzero(positions < len(self.images)):
            found = self._image(int(positions[row]))
            if isinstance(found, BadRecord):
                bad.append(found)
            else:
                image[row], mask[row] = found, 1
        return Rows({"image": image, **self._labels(positions, mask > 0), "mask": mask}, tuple(bad))

    def _labels(self, positions: np.ndarray, real: np.ndarray) -> Arrays:
        if self.label is None:
            return {}
        known = self.label(self.images, positions[real])
        labels = np.full((len(positions), *known.shape[1:]), -1, np.int32)
        labels[real] = known
        return {"label": labels}

    def _image(self, index: int) -> np.ndarray | BadRecord:
        if self.decoded is not None:
            return self.decoded.bad.get(index, self.decoded.images[index])
        image = read_image(self.images, index, self.data, path="pillow")  # evaluation is always exact
        try:
            return image if isinstance(image, BadRecord) else self.view(image)
        except BadImage as error:
            return BadRecord(index, str(error))
