"""Find the images that look most like one, by the features of an embedding."""

from collections.abc import Sequence

import numpy as np

from semivit_jax.inference.embedding import Embedding


class Similar:
    """Features of the images of a folder."""

    def __init__(self, found: Embedding, names: Sequence[str]):
        """Args: found, an embedding that has some of the images; names, of all images.

        Raises:
          ValueError: it has not one of them.
        """
        place = {name: number for number, name in enumerate(names)}
        rows = [(row, place[name]) for row, name in enumerate(found.names) if name in place]
        if not rows:
            raise ValueError(f"the embedding is of other images ({found.about['images']}); give the one of --images")
        self.places = np.array([number for _, number in rows], np.int64)
        features = np.asarray(found.features[[row for row, _ in rows]], np.float32)
        self._features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        self._row = {int(number): row for row, number in enumerate(self.places)}

    def to(self, place: int, count: int) -> list[tuple[int, float]]:
        """The nearest images by cosine similarity, the image itself first; nothing of one without features."""
        row = self._row.get(place)
        if row is None:
            return []
        cosine = self._features @ self._features[row]
        cosine[row] = np.inf
        count = min(count, len(cosine))
        nearest = np.argpartition(-cosine, count - 1)[:count]
        nearest = nearest[np.argsort(-cosine[nearest], kind="stable")]
        return [(int(self.places[near]), round(min(1.0, float(cosine[near])), 4)) for near in nearest]
