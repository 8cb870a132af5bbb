"""Serve features of views that were computed before in the place of images: what `config.data.cache_features` keeps."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.rows import DecodedSet, Rows, StreamImages, good_places


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Features of images that are seen in one way.

    Attributes:
      features: float32 [m, views, width].
      row_of: int64 [n], of every image of a set its row, -1 for those that are not in the table.
      bad: images that cannot be read, by their position in the set.
    """

    features: np.ndarray
    row_of: np.ndarray
    bad: Mapping[int, BadRecord]

    def view(self, indices: np.ndarray, number: np.ndarray) -> np.ndarray:
        """View `number` of the images at `indices`, both int64 [n], shaped as images are: float32 [n, 1, 1, width]."""
        return self.features[self.row_of[indices], number][:, None, None]


def as_decoded(table: FeatureTable) -> DecodedSet:
    """The first view of a whole set in the place of its decoded images; zeros where one cannot be read."""
    first = np.concatenate([table.features[:, 0], np.zeros((1, table.features.shape[2]), table.features.dtype)])
    return DecodedSet(first[table.row_of][:, None, None], table.bad)  # row -1 is that of zeros


@dataclasses.dataclass(frozen=True)
class FeatureRows:
    """Takes rows of a stream from tables. In pass p, an image is seen in its view p modulo their number.

    Attributes:
      stream: the images in their order.
      tables: of every leaf of the batch.
    """

    stream: StreamImages
    tables: Mapping[str, FeatureTable]

    def read(self, positions: np.ndarray) -> Rows:
        """Rows at the stream positions."""
        order = self.stream.order
        bad = collections.ChainMap(*(dict(table.bad) for table in self.tables.values()))
        places, met = good_places(order, positions, bad)
        passes, indices = positions // len(order.indices), order.indices[places]
        views = {leaf: table.view(indices, passes % table.features.shape[1]) for leaf, table in self.tables.items()}
        return Rows(views | self.stream.told(places), met)
