"""Tell what has changed in a data set since a run began: images added, removed, moved, and given another label."""

import dataclasses
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from semivit_jax.data.sources.listing import Listing

_MOST = 3  # images of a kind that are named


@dataclasses.dataclass(frozen=True)
class Changes:
    """Names of images, sorted; `str` tells them in a line, '' where nothing has changed.

    Attributes:
      added: that are new.
      removed: that are gone.
      moved: (name then, name now) of those gone whose file name is that of exactly one new one.
      relabeled: (name, label then, label now); 'none' where an image has no label.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    relabeled: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        told = {
            "added": [repr(name) for name in self.added],
            "removed": [repr(name) for name in self.removed],
            "moved": [f"{then!r} to {now!r}" for then, now in self.moved],
            "relabeled": [f"{name!r} from {then!r} to {now!r}" for name, then, now in self.relabeled],
        }
        return "; ".join(f"{len(names):,} {what} ({_first(names)})" for what, names in told.items() if names)


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_MOST]) + (", ..." if len(texts) > _MOST else "")


def compare(then: Listing, now: Listing) -> Changes:
    """What has changed from one listing of a data set to a later one; labels are compared by the names of classes."""
    before, after = _labels(then), _labels(now)
    removed = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    moved = _moved(removed, added)
    gone, new = {name for name, _ in moved}, {name for _, name in moved}
    both = ((name, before[name], after[name]) for name in before if name in after)
    return Changes(
        added=tuple(sorted(name for name in added if name not in new)),
        removed=tuple(sorted(name for name in removed if name not in gone)),
        moved=tuple(sorted(moved)),
        relabeled=tuple(sorted(one for one in both if one[1] != one[2])),
    )


def _labels(listing: Listing) -> dict[str, str]:
    """Image to class name."""
    names = np.array([*listing.class_names, "none"], object)
    return dict(zip(listing.names, names[listing.labels], strict=True))


def _moved(removed: Sequence[str], added: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of the same file name, where it stands once among those removed and once among those added."""
    gone, new = _once(removed), _once(added)
    return [(name, new[file]) for file, name in gone.items() if file in new]


def _once(names: Sequence[str]) -> dict[str, str]:
    """File name to name, without file names that stand in several folders."""
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(PurePosixPath(name).name, []).append(name)
    return {file: found[0] for file, found in files.items() if len(found) == 1}
