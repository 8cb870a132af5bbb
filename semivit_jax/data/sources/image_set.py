"""Define an open image set: encoded images with their names and labels."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Records(Protocol):
    """Encoded images by position; can be pickled, and opens its files in the process that reads them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the records of another set."""

    records: Records
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> bytes:
        return self.records[int(self.indices[index])]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their names and labels; equal to no other set, so that what was made of it can be kept for it."""

    records: Records
    names: Sequence[str]
    labels: np.ndarray  # int32 [n], -1 where not known

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> "ImageSet":
        """The images at the given positions, in that order."""
        names = [self.names[int(index)] for index in indices]
        return ImageSet(Subset(self.records, indices), names, self.labels[indices])
