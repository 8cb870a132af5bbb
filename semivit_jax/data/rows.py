"""Turn stream positions into arrays: decode, skip bad records, make views, add labels, stack.

Two readers do the same. `DecodeRows` decodes every image when its turn comes. `MemoryRows` serves small sets
of small images, which are decoded once: taking 240 digits of 8x8 by one array operation takes 50
microseconds, decoding them 10 milliseconds.
"""

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecord, TooManyBadRecords
from semivit_jax.data.bank import Bank
from semivit_jax.data.images.decode import BadImage, decode
from semivit_jax.data.images.remarks import remark_on
from semivit_jax.data.images.types import ImagePath
from semivit_jax.data.images.views import RandomViews, unchanged
from semivit_jax.data.order import StreamOrder
from semivit_jax.data.sources.image_set import ImageSet

# Sets of unchanging images up to this size are decoded once and kept. The digits take 0.3 MB; a set at the limit has
# 20,000 images of their size, which take two seconds to decode at every start.
MEMORY_LIMIT_BYTES = 4 * 2**20

Arrays = dict[str, np.ndarray]
LabelOf = Callable[[ImageSet, np.ndarray], np.ndarray]
"""(images, positions in the set [n]) -> int32 [n, ...], -1 where not known; can be pickled."""


class LabelKind(NamedTuple):
    """What the leaf 'label' holds."""

    shape: Callable[[int], tuple[int, ...]]  # of one image's label, from the number of classes
    of: LabelOf


def class_of(images: ImageSet, positions: np.ndarray) -> np.ndarray:
    """The class of each image, int32 [n]."""
    return images.labels[positions].astype(np.int32)


LABELS: dict[str, LabelKind] = {"class": LabelKind(shape=lambda num_classes: (), of=class_of)}


def label_of(kind: str) -> LabelOf | None:
    """How labels of a kind are had; None for '', which is no label."""
    return LABELS[kind].of if kind else None


class Rows(NamedTuple):
    """Stacked rows of one stream, and the bad records skipped on the way.

    A named tuple, not a dataclass: grain hands the arrays inside tuples from worker processes through shared
    memory.
    """

    arrays: Arrays  # uint8 [n, height, width, 3] per view, and what `StreamImages.told` adds
    bad: tuple[BadRecord, ...]


class RowReader(Protocol):
    """Rows at given stream positions; can be pickled."""

    def read(self, positions: np.ndarray) -> Rows: ...


@dataclasses.dataclass(frozen=True)
class StreamImages:
    """The images of one stream in its order, and what is told of them beside their views."""

    images: ImageSet
    order: StreamOrder
    label: LabelOf | None
    image_id: bool
    bank: Bank | None

    def told(self, places: Sequence[int] | np.ndarray) -> Arrays:
        """What is asked for of the images at `places` in the order's list.

        Returns:
          Of 'label' int32 [n, ...], 'image_id' int32 [n], 'bank_class' int32 and 'bank_prob' float32 [n, k].
        """
        places = np.asarray(places, np.int64)
        positions = self.order.indices[places]
        told = {} if self.label is None else {"label": self.label(self.images, positions)}
        if self.image_id:
            told["image_id"] = places.astype(np.int32)
        if self.bank is not None:
            told |= {"bank_class": self.bank.classes[positions], "bank_prob": self.bank.probs[positions]}
        return told


@dataclasses.dataclass(frozen=True)
class DecodeRows:
    """Decodes every image when it is read."""

    stream: StreamImages
    views: RandomViews
    data: DataConfig
    path: ImagePath

    def read(self, positions: np.ndarray) -> Rows:
        """Rows at the stream positions, each with the random numbers of its own position."""
        bad: list[BadRecord] = []
        found = [self._row(int(position), bad) for position in positions]
        rows = [views for _, views in found]
        stacked = {leaf: np.stack([row[leaf] for row in rows]) for leaf in rows[0]}
        return Rows(stacked | self.stream.told([place for place, _ in found]), tuple(bad))

    def _row(self, position: int, bad: list[BadRecord]) -> tuple[int, Mapping[str, np.ndarray]]:
        """The place of the first good image from a position on, and its views."""
        order = self.stream.order
        generator = order.generator_at(position)
        for offset in range(len(order.indices)):
            place = int(order.place_at(np.array(position + offset)))
            image = read_image(self.stream.images, int(order.indices[place]), self.data, path=self.path)
            if not isinstance(image, BadRecord):
                return place, self.views(image, generator)
            bad.append(image)
        raise all_bad(order)


@dataclasses.dataclass(frozen=True)
class MemoryRows:
    """Takes rows from images that are already decoded, without random views."""

    stream: StreamImages
    decoded: "DecodedSet"

    def read(self, positions: np.ndarray) -> Rows:
        """Rows at the stream positions."""
        indices = self.stream.order.indices
        places, bad = good_places(self.stream.order, positions, self.decoded.bad)
        return Rows({"image": self.decoded.images[indices[places]]} | self.stream.told(places), bad)


@dataclasses.dataclass(frozen=True)
class DecodedSet:
    """All images of a set in memory, as they enter a batch for evaluation.

    Attributes:
      images: decoded, uint8 [n, size, size, 3], black where bad; or features in their place, float32 [n, 1, 1, width].
      bad: those that cannot be read.
    """

    images: np.ndarray
    bad: Mapping[int, BadRecord]


_decoded: weakref.WeakKeyDictionary[ImageSet, dict[tuple[int, bool, int], DecodedSet]] = weakref.WeakKeyDictionary()


def decode_all(images: ImageSet, data: DataConfig) -> DecodedSet:
    """Decodes a set whose images all have the configured size; once, since every stage of a run asks for it."""
    kept = _decoded.setdefault(images, {})
    seen_as = (data.image_size, data.exif_rotation, data.max_pixels)
    if seen_as not in kept:
        kept[seen_as] = _decode_each(images, data)
    return kept[seen_as]


def _decode_each(images: ImageSet, data: DataConfig) -> DecodedSet:
    size = data.image_size
    decoded = np.zeros((len(images), size, size, 3), np.uint8)
    bad = {}
    for index in range(len(images)):
        image = read_image(images, index, data, path="pillow")
        if isinstance(image, BadRecord):
            bad[index] = image
        else:
            decoded[index] = unchanged(image, size)
    return DecodedSet(decoded, bad)


def fits_in_memory(images: ImageSet, data: DataConfig) -> bool:
    """Whether the images stay as decoded (their views are made on the device) and are few and small."""
    return data.affine_views is not None and len(images) * data.image_size**2 * 3 <= MEMORY_LIMIT_BYTES


def read_image(images: ImageSet, index: int, data: DataConfig, *, path: ImagePath) -> np.ndarray | BadRecord:
    """The decoded image, uint8 [height, width, 3], or why it cannot be had."""
    try:
        encoded = images.records[index]
        return decode(
            encoded,
            path=path,
            exif_rotation=data.exif_rotation,
            max_pixels=data.max_pixels,
            tell=lambda remark: remark_on(images.names[index], remark),
        )
    except BadImage as error:
        return BadRecord(index, str(error))
    except OSError as error:  # whose text would name the file a second time
        return BadRecord(index, f"cannot be read: {error.strerror or error}")


def good_places(
    order: StreamOrder, positions: np.ndarray, known: Mapping[int, BadRecord]
) -> tuple[np.ndarray, tuple[BadRecord, ...]]:
    """Places in a stream's list of the first good image from each position on, and the bad ones met on the way.

    Args:
      order: of the stream.
      positions: int64 [n], of it.
      known: the images of the set that cannot be read.
    """
    places, met = order.place_at(positions), []
    for row in np.flatnonzero(np.isin(order.indices[places], list(known))) if known else ():
        places[row] = _next_good(order, int(positions[row]), known, met)
    return places, tuple(met)


def _next_good(order: StreamOrder, position: int, known: Mapping[int, BadRecord], met: list[BadRecord]) -> int:
    for offset in range(len(order.indices)):
        place = int(order.place_at(np.array(position + offset)))
        index = int(order.indices[place])
        if index not in known:
            return place
        met.append(known[index])
    raise all_bad(order)


def all_bad(order: StreamOrder) -> TooManyBadRecords:
    """The error of a stream without a single image that can be read."""
    return TooManyBadRecords(f"none of the {len(order.indices)} images of the stream {order.name!r} can be read")
