"""Index an image set (names, labels, content hash) once, and keep the index in a file.

A million names as Python strings take 100 MB and a second to unpickle in every worker; one block of bytes
with offsets takes half of that and no time.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from semivit_jax import files
from semivit_jax.data.sources import kept
from semivit_jax.files import AnyPath

_FORMAT = 1  # raised when the hash changes its meaning
_KEPT_FORMAT = 2  # raised when the file does
_KEPT = {"block": "uint8", "ends": "int64", "labels": "int32", "class_names": "str_", "content": "str_"}


class NameTable(Sequence[str]):
    """File names as one block of bytes; names that are not UTF-8 survive (`os.fsencode`)."""

    def __init__(self, block: np.ndarray, ends: np.ndarray, *, made_up_for: str = ""):
        self.block = block  # uint8, all names one after the other
        self.ends = ends  # int64 [n], where each name stops
        # Content hash of the listing whose images are merely numbered by these names; '' for names of files, which
        # tell one data set from another by themselves.
        self.made_up_for = made_up_for

    @classmethod
    def pack(cls, names: Iterable[str]) -> "NameTable":
        return cls.of_bytes([os.fsencode(name) for name in names])

    @classmethod
    def of_bytes(cls, encoded: Sequence[bytes]) -> "NameTable":
        """The same from names as the system has them."""
        lengths = np.fromiter(map(len, encoded), np.int64, count=len(encoded))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        """All names; several times faster than one by one."""
        block, start = self.block.tobytes(), 0
        for end in self.ends.tolist():
            yield os.fsdecode(block[start:end])
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative positions, and IndexError past the end
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.block[start : self.ends[index]].tobytes())


@dataclasses.dataclass(frozen=True)
class Listing:
    """Names, labels and class names of one image set."""

    names: Sequence[str]
    labels: np.ndarray  # int32, -1 where not known
    class_names: tuple[str, ...]

    def content_hash(self) -> str:
        """Hash of every name, label and class name, in order: the same on every host."""
        digest = hashlib.sha256(f"listing {_FORMAT}\n".encode())
        table = self.names if isinstance(self.names, NameTable) else NameTable.pack(self.names)
        for part in (table.block, table.ends.astype("<i8"), self.labels.astype("<i4")):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update("\n".join(self.class_names).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def with_made_up_names(listing: Listing) -> Listing:
    """The same listing, whose names say that they are no names of files."""
    table = listing.names if isinstance(listing.names, NameTable) else NameTable.pack(listing.names)
    names = NameTable(table.block, table.ends, made_up_for=listing.content_hash())
    return dataclasses.replace(listing, names=names)


def save(path: AnyPath, listing: Listing, *, fingerprint: str) -> None:
    """Writes a listing; the file appears whole, by rename.

    `fingerprint` describes what the listing was made from; `load` ignores a file with another one.

    Raises:
      OSError: it cannot be written.
    """
    kept.write(path, _arrays(listing), fingerprint=f"{_KEPT_FORMAT} {fingerprint}")


def keep(path: Path, listing: Listing, *, fingerprint: str) -> None:
    """Writes a listing that may be made again; warns where it cannot be written."""
    kept.keep(path, _arrays(listing), fingerprint=f"{_KEPT_FORMAT} {fingerprint}")


def _arrays(listing: Listing) -> dict[str, np.ndarray]:
    table = listing.names if isinstance(listing.names, NameTable) else NameTable.pack(listing.names)
    return {
        "block": table.block,
        "ends": table.ends,
        "labels": listing.labels,
        "class_names": np.array(listing.class_names, np.str_),
        "content": np.array([listing.content_hash()]),
    }


def load(path: AnyPath, *, fingerprint: str) -> Listing | None:
    """The saved listing, or None where there is none with this fingerprint."""
    found = kept.recall(path, _KEPT, fingerprint=f"{_KEPT_FORMAT} {fingerprint}")
    if found is None:
        return None
    names = NameTable(found["block"], found["ends"])
    listing = Listing(names, found["labels"], tuple(str(name) for name in found["class_names"]))
    if found["content"].tolist() != [listing.content_hash()]:
        kept.damaged(path, "it does not hold what was written")
        return None
    return listing


def cache_file(beside: files.Path, *, name: str, cache_dir: Path) -> Path:
    """Where to keep the listing of the folder `beside`: in it, or in the user's cache if it is read-only."""
    if os.access(beside, os.W_OK):
        return Path(beside / f".semivit_listing_{name}.npz")
    place = hashlib.sha256(os.fsencode(files.absolute(beside))).hexdigest()[:16]
    return cache_dir / f"listing_{place}_{name}.npz"
