"""Lay out features in the plane, so that one sees which images a model takes for alike."""

from typing import NamedTuple

import numpy as np

MOST = 2000  # images that are laid out
_COMPONENTS = 30  # principal ones that t-SNE starts from
_LEAST_FOR_NEIGHBOURS = 60  # images; of fewer, the two principal components are drawn


class Layout(NamedTuple):
    """float [n, 2], and how it came about, for people."""

    points: np.ndarray
    method: str


def layout(features: np.ndarray, *, seed: int) -> Layout:
    """Places of features [n, width]: t-SNE (van der Maaten and Hinton 2008) of their principal components."""
    from sklearn.decomposition import PCA  # seconds to load
    from sklearn.manifold import TSNE

    few = len(features) < _LEAST_FOR_NEIGHBOURS
    components = min(2 if few else _COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(features)
    if few:
        return Layout(np.pad(reduced, ((0, 0), (0, 2 - components))), "the two principal components of the features")
    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return Layout(
        np.asarray(points), f"t-SNE of the features, perplexity {perplexity:g}: neighbours count, distances do not"
    )
