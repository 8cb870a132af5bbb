"""Find images again that weights were trained on with a label: no run may grade them that starts from these weights."""

import dataclasses
import os
import pathlib

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
      data: of its config.
      names: of its training set.
    """

    source: str
    data: DataConfig
    names: frozenset[str]

    def positions(self, images: ImageSet, data: DataConfig, split: str) -> np.ndarray:
        """Sorted places of these images in an image set, int64.

        A photo is the same if it is the same file; where it has only the same name below another folder, if that
        folder is gone or the two files are alike. Images of data sets are told by their names in their split.

        Args:
          images: the set.
          data: of the config that it was opened with.
          split: that it is of.
        """
        if data.dataset != self.data.dataset:
            return NONE
        if data.dataset != "own_folder":
            names = self.names if split == self.data.train_split else frozenset()
            return np.array([i for i, name in enumerate(images.names) if name in names], np.int64)
        theirs, ours = _folder(self.data, self.data.train_split), _folder(data, split)
        paths = {os.path.join(theirs, name) for name in self.names}
        moved = theirs != ours
        gone = not os.path.isdir(theirs)

        def same(position: int, name: str) -> bool:
            if os.path.join(ours, name) in paths:
                return True
            return moved and name in self.names and (gone or _alike(os.path.join(theirs, name), images, position))

        return np.array([i for i, name in enumerate(images.names) if same(i, name)], np.int64)


def _folder(data: DataConfig, split: str) -> str:
    return os.path.realpath(os.path.join(expanded(data.root), split))


def _alike(path: str, images: ImageSet, position: int) -> bool:
    try:
        return pathlib.Path(path).read_bytes() == images.records[position]
    except OSError:  # one of them has gone, so nobody can grade it
        return False
