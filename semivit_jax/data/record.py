"""Keep in a workdir which images a run began with and in which roles, and compare them with those of now.

`listing.json` holds hashes, sizes and classes, `split.csv` the labeled and validation images, `images.npz` (and
`eval_images.npz`) all names and labels. `labeled_before.json` names images that the weights it started from had been
trained on with a label, where there are any. They are written once, when the run begins.
"""

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from semivit_jax.data import splits
from semivit_jax.data.changes import compare
from semivit_jax.data.opening import Listings, Opened
from semivit_jax.data.sources import listing
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.listing import Listing
from semivit_jax.data.splits import Split, SplitError
from semivit_jax.files import Path, read_json, write_json, writing
from semivit_jax.words import counted

FILES = ("listing.json", "split.csv", "images.npz", "eval_images.npz", "labeled_before.json")
_LISTING, _SPLIT, _IMAGES, _EVAL_IMAGES, _LABELED_BEFORE = FILES
_COLUMNS = ("role", "index", "name", "label")


class Row(NamedTuple):
    """A labeled or validation image: its role, its place in the training set, and what it was called."""

    role: str
    index: int
    name: str
    label: int


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run began with.

    Attributes:
      workdir: of the run.
      facts: of listing.json.
      rows: of split.csv; every image that it does not name is unlabeled.
    """

    workdir: Path
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.facts["class_names"])

    def names(self, role: str) -> list[str]:
        """Images of a role, 'labeled' or 'validation'."""
        return [row.name for row in self.rows if row.role == role]

    def split(self) -> Split:
        """The run's split, of its own training set.

        Raises:
          SplitError: split.csv is not what the run has written.
        """
        found = splits.split_from_roles(
            self.facts["num_train"], labeled=self._positions("labeled"), validation=self._positions("validation")
        )
        if splits.split_hash(found, self.facts["listing_hash"]) != self.facts["split_hash"]:
            raise SplitError(
                f"{self.workdir / _SPLIT} has been changed since the run began, so it is not known which images are "
                "labeled; put the old one back, or use another workdir"
            )
        return found

    def changes(self, now: Listings) -> str:
        """What has changed since, in a line; '' where nothing has."""
        if listing_hash(now) == self.facts["listing_hash"]:
            return ""
        told = [
            self._changes(_IMAGES, now.train, "training image", "num_train"),
            self._changes(_EVAL_IMAGES, now.evaluation, "evaluation image", "num_eval") if now.evaluation else "",
        ]
        return "; ".join(filter(None, told)) or "other names or labels of images that were unlabeled"

    def labeled_before(self) -> list[str]:
        """Images that the weights it started from had been trained on with a label."""
        path = self.workdir / _LABELED_BEFORE
        return read_json(path) if path.exists() else []

    def restored(self, now: Opened) -> tuple[Opened, Split]:
        """Of other images than the run began with, those that it knew, with its classes and in its roles."""
        train = self._with_classes(now.train, now.class_names)
        then = listing.load(self.workdir / _IMAGES, fingerprint=_IMAGES)
        if then is not None:
            known = set(then.names)
            train = train.subset(np.array([i for i, name in enumerate(train.names) if name in known], np.int64))
        place = {name: i for i, name in enumerate(train.names)}
        for row in self.rows:
            if row.name in place and train.labels[place[row.name]] < 0:  # the label has gone, not the image
                train.labels[place[row.name]] = row.label
        labeled, validation = (
            np.array([place[name] for name in self.names(role) if name in place], np.int64)
            for role in ("labeled", "validation")
        )
        evaluation = None if now.evaluation is None else self._with_classes(now.evaluation, now.class_names)
        listed = Listing(train.names, train.labels, self.class_names)
        opened = Opened(train, evaluation, Listings(listed, now.listings.evaluation))
        return opened, splits.split_from_roles(len(train), labeled=labeled, validation=validation)

    def _with_classes(self, images: ImageSet, class_names: Sequence[str]) -> ImageSet:
        """The same images, their labels numbered as the run numbers its classes; -1 for one that it does not know."""
        number = {name: index for index, name in enumerate(self.class_names)}
        table = np.array([number.get(name, -1) for name in class_names] + [-1], np.int32)
        return ImageSet(images.records, images.names, table[images.labels])

    def _positions(self, role: str) -> np.ndarray:
        return np.array([row.index for row in self.rows if row.role == role], np.int64)

    def _changes(self, file: str, now: Listing, noun: str, count: str) -> str:
        then = listing.load(self.workdir / file, fingerprint=file)
        if then is not None:
            found = str(compare(then, now))
            return f"{noun}s: {found}" if found else ""
        # An earlier version kept the names of labeled and validation images, and of the others how many there were.
        then_now = f"{counted(self.facts[count], noun)} then, {len(now.names):,} now"
        if file == _IMAGES:
            found = self._changes_of_rows(now)
            return f"{noun}s: {found}; {then_now}" if found else then_now
        return then_now if self.facts[count] != len(now.names) else ""

    def _changes_of_rows(self, now: Listing) -> str:
        """What has become of the labeled and validation images."""
        names = [row.name for row in self.rows]
        then = Listing(names, np.array([row.label for row in self.rows], np.int32), self.class_names)
        found = compare(then, now)
        return str(dataclasses.replace(found, added=()))


def read(workdir: Path) -> Record | None:
    """What a run began with; None where none has begun."""
    if not all((workdir / name).exists() for name in (_LISTING, _SPLIT)):
        return None
    return Record(workdir, read_json(workdir / _LISTING), _read_rows(workdir / _SPLIT))


def write(workdir: Path, now: Listings, split: Split, *, num_eval: int, labeled_before: Sequence[str]) -> None:
    """Writes what a run begins with; listing.json, which makes the record one, comes last."""
    workdir.mkdir(parents=True, exist_ok=True)
    _write_rows(workdir / _SPLIT, split, now.train)
    listing.save(workdir / _IMAGES, now.train, fingerprint=_IMAGES)
    if now.evaluation is not None:
        listing.save(workdir / _EVAL_IMAGES, now.evaluation, fingerprint=_EVAL_IMAGES)
    if labeled_before:
        write_json(workdir / _LABELED_BEFORE, list(labeled_before))
    facts = {
        "listing_hash": listing_hash(now),
        "split_hash": splits.split_hash(split, listing_hash(now)),
        "class_names": list(now.train.class_names),
        "num_train": len(now.train.names),
        "num_labeled": len(split.labeled),
        "num_unlabeled": len(split.unlabeled),
        "num_validation": len(split.validation),
        "num_eval": num_eval,
    }
    with writing(workdir / _LISTING) as file:
        file.write((json.dumps(facts, indent=2) + "\n").encode())


def listing_hash(now: Listings) -> str:
    """Hash of names, labels and classes of both sets."""
    hashes = [one.content_hash() for one in now if one is not None]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _write_rows(path: Path, split: Split, now: Listing) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for role, indices in (("labeled", split.labeled), ("validation", split.validation)):
        writer.writerows([role, index, now.names[int(index)], now.labels[index]] for index in indices)
    with writing(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def _read_rows(path: Path) -> tuple[Row, ...]:
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(errors="surrogateescape"), newline="")))
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise SplitError(f"{path} is not a split file: its first line must be {','.join(_COLUMNS)}")
    try:
        return tuple(Row(role, int(index), name, int(label)) for role, index, name, label in rows[1:])
    except ValueError as error:
        raise SplitError(f"{path} is damaged: {error}") from error
