"""Find images of the same content that stand in several roles of a split, or have several labels."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semivit_jax import console
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.sources.folder import FolderRecords
from semivit_jax.data.sources.image_set import ImageSet, Records, Subset
from semivit_jax.words import counted

_FEW = 5  # contents that a warning names
# Images that a start reads at most; a folder of 60,000 photographs holds about as many whose sizes in bytes are equal.
_MOST_READ = 10_000


class Place(NamedTuple):
    """Where a content lies."""

    role: str  # labeled, unlabeled, validation, evaluation
    name: str
    label: str  # class, '' where it is not known

    def __str__(self) -> str:
        return f"{self.name!r} ({self.role})"


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Contents that lie in several places."""

    across: tuple[tuple[Place, ...], ...]  # of several roles
    at_odds: tuple[tuple[Place, ...], ...]  # with several labels
    unread: tuple[str, ...]  # names of images that cannot be read, with the reason
    not_compared: int  # images beyond the most that were to be read


class _Image(NamedTuple):
    role: str
    images: ImageSet
    index: int


def find(task: TaskData, *, most: int | None = None) -> Duplicates:
    """Compares the contents of all images; of files whose sizes are known, those of equal size alone are read.

    Args:
      task: whose images are compared.
      most: images to read at most; None reads all.
    """
    found = _candidates(_roles(task))
    contents: dict[bytes, list[Place]] = defaultdict(list)
    unread: list[str] = []
    compared = found[:most]
    for role, images, index in console.track(compared, "comparing images", total=len(compared)):
        name, label = images.names[index], int(images.labels[index])
        try:
            digest = hashlib.sha256(images.records[index]).digest()
        except OSError as error:
            unread.append(f"{name!r} ({error.strerror})")
            continue
        contents[digest].append(Place(role, name, task.class_names[label] if label >= 0 else ""))
    several = [tuple(places) for places in contents.values() if len(places) > 1]
    return Duplicates(
        across=tuple(places for places in several if len({place.role for place in places}) > 1),
        at_odds=tuple(places for places in several if len({place.label for place in places if place.label}) > 1),
        unread=tuple(unread),
        not_compared=len(found) - len(compared),
    )


def told(found: Duplicates) -> list[str]:
    """One line for each content with several labels, and for each that stands in several roles."""
    labels = ["same content, other labels: " + ", ".join(f"{p.name!r} ({p.label!r})" for p in places if p.label)
              for places in found.at_odds]  # fmt: skip
    return labels + ["same content: " + ", ".join(map(str, places)) for places in found.across]


def warnings(task: TaskData) -> list[str]:
    """What a start says of duplicates in an own folder: the first ones, and how many there are.

    Nothing of other data sets, whose images would all have to be read.
    """
    if _sizes(task.train.records) is None:
        return []
    found = find(task, most=_MOST_READ)
    lines = told(dataclasses.replace(found, at_odds=found.at_odds[:_FEW], across=found.across[:_FEW]))
    more = sum(max(0, len(several) - _FEW) for several in (found.at_odds, found.across))
    if more or found.not_compared:
        left = [f"{counted(more, 'further duplicate')}"] if more else []
        if found.not_compared:
            left.append(f"{counted(found.not_compared, 'image')} of equal size not compared")
        lines.append(f"{' and '.join(left)}: `semivit split` names all")
    return lines


def _roles(task: TaskData) -> list[tuple[str, ImageSet, np.ndarray]]:
    split = task.split
    roles = [
        ("labeled", task.train, split.labeled),
        ("unlabeled", task.train, split.unlabeled),
        ("validation", task.train, split.validation),
    ]
    if task.evaluates_on_validation:
        return roles
    return [*roles, ("evaluation", task.eval, np.arange(len(task.eval)))]


def _candidates(roles: Sequence[tuple[str, ImageSet, np.ndarray]]) -> list[_Image]:
    """The images that may have a twin: those of a size that occurs twice, or all where sizes are not known."""
    chosen = [np.ones(len(indices), bool) for _, _, indices in roles]
    known = [_sizes(images.records) for _, images, _ in roles]
    sizes = [of_set[indices] for of_set, (_, _, indices) in zip(known, roles, strict=True) if of_set is not None]
    if len(sizes) == len(roles):
        _, which, counts = np.unique(np.concatenate(sizes), return_inverse=True, return_counts=True)
        ends = np.cumsum([len(part) for part in sizes])[:-1]
        chosen = np.split(counts[which] > 1, ends)
    return [
        _Image(role, images, int(index))
        for (role, images, indices), may_be in zip(roles, chosen, strict=True)
        for index in indices[may_be]
    ]


def _sizes(records: Records) -> np.ndarray | None:
    """Bytes of every record, int64 [n], or None where only reading tells."""
    if isinstance(records, FolderRecords):
        return records.sizes
    if isinstance(records, Subset):
        whole = _sizes(records.records)
        return None if whole is None else whole[records.indices]
    return None
