"""Lay out features in the plane, so that one sees which images a model takes for alike."""

from typing import NamedTuple

import numpy as np

from semivit_jax.hosts import threads

MOST = 1000  # images that are laid out; more would hide each other, and take minutes
_COMPONENTS = 30  # principal ones that t-SNE starts from
_LEAST_FOR_NEIGHBOURS = 60  # images; of fewer, the two principal components are drawn
_ITERATIONS = 500


class Layout(NamedTuple):
    """Places in the plane.

    Attributes:
      points: float [n, 2].
      rows: int [n], which of the images they are of.
      method: how they came about, for people.
    """

    points: np.ndarray
    rows: np.ndarray
    method: str


def layout(features: np.ndarray, first: np.ndarray, *, seed: int) -> Layout:
    """Places of features by t-SNE (van der Maaten and Hinton 2008) of their principal components.

    Args:
      features: float [n, width]; of many, some are drawn.
      first: bool [n], those that take part before others.
      seed: of all that is drawn.
    """
    order = np.random.default_rng(seed).permutation(len(features))
    rows = np.sort(order[np.argsort(~first[order], kind="stable")][:MOST])
    features = features[rows]
    if len(features) < _LEAST_FOR_NEIGHBOURS:
        directions, lengths, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        plane = (directions * lengths)[:, :2]
        plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
        return Layout(plane, rows, "the two principal components of the features")
    from sklearn.decomposition import PCA  # seconds to load
    from sklearn.manifold import TSNE

    reduced = PCA(min(_COMPONENTS, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", max_iter=_ITERATIONS, random_state=seed)
    with threads.one_for_algebra():
        points = np.asarray(tsne.fit_transform(reduced))
    return Layout(points, rows, f"t-SNE of the features, perplexity {perplexity:g}")
