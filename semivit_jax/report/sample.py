"""Draw the images of a run that a report looks at closely, and compute their features."""

from typing import NamedTuple

import numpy as np

from semivit_jax.config import Config
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference import features
from semivit_jax.inference.trained import Trained

LABELED, UNLABELED, GRADED = "labeled", "unlabeled", "evaluation"  # roles
_BATCH = 64  # images of a forward pass


class Seen(NamedTuple):
    """Images of one role.

    Attributes:
      role: of them.
      images: the set that they are of.
      places: int [n], in the set.
      features: float32 [n, width]; [n, 0] before any were computed.
    """

    role: str
    images: ImageSet
    places: np.ndarray
    features: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int [n], -1 where not known."""
        return self.images.labels[self.places]

    def name(self, row: int) -> str:
        """Of an image."""
        return self.images.names[int(self.places[row])]


def draw(task: TaskData, *, most: int, seed: int) -> dict[str, Seen]:
    """All images of each role, or so many of them, drawn at random."""
    sets = {
        LABELED: (task.train, task.split.labeled),
        UNLABELED: (task.train, task.split.unlabeled),
        GRADED: (task.eval, np.arange(len(task.eval))),
    }
    found = {}
    for number, (role, (images, places)) in enumerate(sets.items()):
        if len(places) > most:
            places = np.sort(np.random.default_rng((seed, number)).permutation(places)[:most])
        if len(places):
            found[role] = Seen(role, images, places, np.empty((len(places), 0), np.float32))
    return found


def with_features(sample: dict[str, Seen], trained: Trained, config: Config) -> dict[str, Seen]:
    """The same images as the weights see them, without those that cannot be read."""
    most = min(_BATCH, max(len(seen.places) for seen in sample.values()))
    extract = features.extractor(trained, config, most=most)
    found = {}
    for role, seen in sample.items():
        # The place of an image stands as its label, so that one knows which could be read.
        numbered = ImageSet(seen.images.records, seen.images.names, np.arange(len(seen.images), dtype=np.int32))
        computed, places = extract(numbered.subset(seen.places))
        found[role] = seen._replace(places=places, features=computed)
    return found


def joined(sample: dict[str, Seen], *roles: str) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
    """(features, labels, (role, row) of each) of several roles, those of them that are there."""
    there = [sample[role] for role in roles if role in sample]
    rows = [(seen.role, row) for seen in there for row in range(len(seen.places))]
    width = there[0].features.shape[1] if there else 0
    computed = np.concatenate([np.empty((0, width), np.float32), *(seen.features for seen in there)])
    return computed, np.concatenate([np.empty(0, np.int32), *(seen.labels for seen in there)]), rows
