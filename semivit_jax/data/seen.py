"""Find images again that weights were trained on with a label: no run may grade them that starts from these weights."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.splits import NONE
from semivit_jax.files import expanded


@dataclasses.dataclass(frozen=True)
class Seen:
    """Images of an earlier run.

    Attributes:
      source: the run, for people.
      dataset: as its config names it.
      root: of its photos, as its config names it.
      train_split: of its config.
      names: of its training set.
    """

    source: str
    dataset: str
    root: str
    train_split: str
    names: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, read back by `from_json`; the root is made absolute, since it is read elsewhere."""
        root = os.path.abspath(expanded(self.root)) if self.root else ""
        return {**dataclasses.asdict(self), "root": root, "names": sorted(self.names)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Seen":
        """Inverse of `to_json`."""
        return cls(**{**stored, "names": frozenset(stored["names"])})

    def positions(self, images: ImageSet, data: DataConfig, split: str) -> np.ndarray:
        """Sorted places of these images in an image set, int64.

        A photo is the same if it is the same file; where it has only the same name below another folder, if that
        folder is gone or the two files are alike. Images of data sets are told by their names in their split.

        Args:
          images: the set.
          data: of the config that it was opened with.
          split: that it is of.
        """
        if data.dataset != self.dataset:
            return NONE
        if data.dataset != "own_folder":
            names = self.names if split == self.train_split else frozenset()
            return np.array([i for i, name in enumerate(images.names) if name in names], np.int64)
        theirs, ours = _folder(self.root, self.train_split), _folder(data.root, split)
        paths = {os.path.join(theirs, name) for name in self.names}
        moved = theirs != ours
        gone = not os.path.isdir(theirs)

        def same(position: int, name: str) -> bool:
            if os.path.join(ours, name) in paths:
                return True
            return moved and name in self.names and (gone or _alike(os.path.join(theirs, name), images, position))

        return np.array([i for i, name in enumerate(images.names) if same(i, name)], np.int64)


def _folder(root: str, split: str) -> str:
    return os.path.realpath(os.path.join(expanded(root), split))


def _alike(path: str, images: ImageSet, position: int) -> bool:
    try:
        return pathlib.Path(path).read_bytes() == images.records[position]
    except OSError:  # one of them has gone, so nobody can grade it
        return False
