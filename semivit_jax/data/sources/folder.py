"""Open a user's own image folder: any nesting, labels for a few of the images."""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivit_jax.data.sources import folder_labels
from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_labels import FolderLabels
from semivit_jax.data.sources.folder_scan import Scan, not_looked_at, scan
from semivit_jax.data.sources.listing import Listing, NameTable
from semivit_jax.words import counted

_log = logging.getLogger(__name__)
_MOST_LINES = 20  # of one kind of problem in a message


@dataclasses.dataclass(frozen=True)
class FolderRecords:
    """The files themselves, opened when they are read."""

    root: Path
    names: Sequence[str]
    sizes: np.ndarray  # int64 [names], bytes, when they were listed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> bytes:
        return (self.root / self.names[index]).read_bytes()


@dataclasses.dataclass(frozen=True)
class FolderSet:
    records: FolderRecords
    listing: Listing
    fingerprint: str  # of names, sizes and times of all image files


def open_folder(
    root: Path, *, labels_csv: Path | None, class_names: Sequence[str] | None, keep_none: bool, cache_dir: Path
) -> FolderSet:
    """Lists a folder and its labels.

    Files that are no usable images are left out and reported; mistakes in the labels are errors, reported
    together.

    Args:
      root: folder of images.
      labels_csv: file of path,label; None reads class sub-folders.
      class_names: classes of the training images when this is an evaluation folder; None takes those found.
      keep_none: images that the file labels `-none-` count as unlabeled; else they are left out.
      cache_dir: where the scan is kept.

    Raises:
      DatasetError: if the folder or its labels cannot be used.
    """
    found = scan(root, cache_dir=cache_dir)
    if labels_csv is None:
        labels = folder_labels.from_class_folders(names=found.names, directories=found.directories)
    else:
        labels = folder_labels.from_csv(labels_csv, root=root, names=found.names, left_out=found.problems)
    if class_names is not None:
        labels = folder_labels.renumber(labels, class_names)
    for line in (*_report(root, found), *_cut(labels.warnings), *labels.doubts):
        _log.warning("%s", line)
    if labels.errors:
        raise DatasetError(
            f"{counted(len(labels.errors), 'problem')} with the labels of {str(root)!r}:\n"
            + "\n".join(_cut(labels.errors))
        )
    return _folder_set(root, found, labels, np.ones_like(labels.none) if keep_none else ~labels.none)


def _folder_set(root: Path, found: Scan, labels: FolderLabels, keep: np.ndarray) -> FolderSet:
    """The images to keep, bool [n]."""
    names, left_out = found.names, len(keep) - int(keep.sum())
    if left_out:
        _log.warning(
            "%s left out, since the label %s says that they belong to no class; config.data.keep_none=true takes them "
            "as unlabeled",
            counted(left_out, "image"),
            NONE_LABEL,
        )
        names = NameTable.pack(itertools.compress(found.names, keep.tolist()))
    listing = Listing(names, labels.labels[keep], labels.class_names)
    return FolderSet(FolderRecords(root, names, found.sizes[keep]), listing, found.fingerprint)


def _report(root: Path, found: Scan) -> list[str]:
    lines = []
    if len(found.problems):
        lines.append(f"{counted(len(found.problems), 'file or folder', 'files or folders')} left out of {str(root)!r}:")
        lines += _cut(found.problems)
    lines += not_looked_at(root, found)
    if found.ignored:
        lines.append(f"{counted(found.ignored, 'file')} in {str(root)!r} passed over, without the ending of an image")
    return lines


def _cut(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"... and {rest} more"] if rest > 0 else [])]
