"""From stream positions to arrays: decode the images, replace bad records, make the views, stack.

Two readers do the same. `DecodeRows` decodes every image when its turn comes. `MemoryRows` serves small sets
of small images, which are decoded once: taking 240 digits of 8x8 by one array operation takes 50
microseconds, decoding them 10 milliseconds.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecord, TooManyBadRecords
from semivit_jax.data.images.decode import BadImage, decode
from semivit_jax.data.images.types import ImagePath
from semivit_jax.data.order import Stream
from semivit_jax.data.sources.image_set import ImageSet

# Sets of unchanging images up to this size are decoded once and kept. The digits take 0.3 MB; a set at the limit has
# 20,000 images of their size, which take two seconds to decode at every start.
MEMORY_LIMIT_BYTES = 4 * 2**20

Arrays = dict[str, np.ndarray]
View = Callable[[np.ndarray, np.random.Generator], Mapping[str, np.ndarray]]


class Rows(NamedTuple):
    """Stacked rows of one stream, and the bad records passed over on the way.

    A named tuple, not a dataclass: grain hands the arrays inside tuples from worker processes through shared
    memory.
    """

    arrays: Arrays  # uint8 [n, height, width, 3] per view, and int32 'label' [n]
    bad: tuple[BadRecord, ...]


class RowReader(Protocol):
    """Rows at given stream positions; can be pickled."""

    def read(self, positions: np.ndarray) -> Rows: ...


@dataclasses.dataclass(frozen=True)
class DecodeRows:
    """Decodes every image when it is read."""

    images: ImageSet
    stream: Stream
    view: View
    data: DataConfig
    path: ImagePath

    def read(self, positions: np.ndarray) -> Rows:
        """Rows at the stream positions, each with the random numbers of its own position."""
        bad: list[BadRecord] = []
        rows = [self._row(int(position), bad) for position in positions]
        return Rows({key: np.stack([row[key] for row in rows]) for key in rows[0]}, tuple(bad))

    def _row(self, position: int, bad: list[BadRecord]) -> Arrays:
        generator = self.stream.generator_at(position)
        for offset in range(len(self.stream.indices)):
            index = int(self.stream.index_at(np.array(position + offset)))
            image = read_image(self.images, index, self.data, path=self.path)
            if isinstance(image, BadRecord):
                bad.append(image)
                continue
            views = self.view(image, generator)
            return {**views, "label": np.asarray(self.images.labels[index], np.int32)}
        raise all_bad(self.stream)


@dataclasses.dataclass(frozen=True)
class MemoryRows:
    """Takes rows from images that are already decoded, without random views."""

    decoded: "DecodedSet"
    labels: np.ndarray
    stream: Stream

    def read(self, positions: np.ndarray) -> Rows:
        """Rows at the stream positions."""
        indices = self.stream.index_at(positions)
        bad: list[BadRecord] = []
        for row in np.flatnonzero(self.decoded.is_bad[indices]):
            indices[row] = self._next_good(int(positions[row]), bad)
        return Rows({"image": self.decoded.images[indices], "label": self.labels[indices]}, tuple(bad))

    def _next_good(self, position: int, bad: list[BadRecord]) -> int:
        for offset in range(len(self.stream.indices)):
            index = int(self.stream.index_at(np.array(position + offset)))
            if not self.decoded.is_bad[index]:
                return index
            bad.append(self.decoded.bad[index])
        raise all_bad(self.stream)


@dataclasses.dataclass(frozen=True)
class DecodedSet:
    """All images of a set, decoded."""

    images: np.ndarray  # uint8 [n, size, size, 3], black where bad
    is_bad: np.ndarray  # bool [n]
    bad: Mapping[int, BadRecord]


def decode_all(images: ImageSet, data: DataConfig) -> DecodedSet:
    """Decodes a set whose images all have the configured size."""
    size = data.image_size
    decoded = np.zeros((len(images), size, size, 3), np.uint8)
    bad = {}
    for index in range(len(images)):
        image = read_image(images, index, data, path="pillow")
        if isinstance(image, BadRecord):
            bad[index] = image
        else:
            decoded[index] = unchanged(image, size)
    is_bad = np.zeros(len(images), bool)
    is_bad[list(bad)] = True
    return DecodedSet(decoded, is_bad, bad)


def fits_in_memory(images: ImageSet, data: DataConfig) -> bool:
    """Whether the images stay as decoded (their views are made on the device) and are few and small."""
    return data.affine_views is not None and len(images) * data.image_size**2 * 3 <= MEMORY_LIMIT_BYTES


def read_image(images: ImageSet, index: int, data: DataConfig, *, path: ImagePath) -> np.ndarray | BadRecord:
    """The decoded image, uint8 [height, width, 3], or why it cannot be had."""
    try:
        encoded = images.records[index]
        return decode(encoded, path=path, exif_rotation=data.exif_rotation, max_pixels=data.max_pixels)
    except BadImage as error:
        return BadRecord(index, str(error))
    except OSError as error:  # whose text would name the file a second time
        return BadRecord(index, f"cannot be read: {error.strerror or error}")


def unchanged(image: np.ndarray, size: int) -> np.ndarray:
    """The image itself, which must have the size that the model expects."""
    if image.shape != (size, size, 3):
        raise ValueError(
            f"an image has the shape {image.shape}; with config.data.affine_views every image must have "
            f"config.data.image_size = {size} pixels on each side"
        )
    return image


def all_bad(stream: Stream) -> TooManyBadRecords:
    """The error of a stream without a single image that can be read."""
    return TooManyBadRecords(f"none of the {len(stream.indices)} images of the stream {stream.name!r} can be read")
