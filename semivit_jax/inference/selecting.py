"""Choose which images to label first, by their features: the table METHODS, and what holds for all of them."""

import dataclasses
import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from semivit_jax.hosts import extras
from semivit_jax.words import counted

MOST = 20_000  # images that are compared each with each; of more, so many are drawn at random first
_COMPARED_AT_ONCE = 1024
FOLDERS = ("", "even", "size")  # shares of folders: no shares, the same number of each, or in proportion to its images

Method = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
"""(features of unit length [n, width], labels float64 [n] with NaN where not known, how many, seed) -> places [m]."""


def random(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws images without looking at them."""
    return np.random.default_rng(seed).permutation(np.flatnonzero(np.isnan(labels)))[:count]


def kmeans(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Takes the image nearest to each centre of k-means, of clusters without a label, large ones first."""
    from sklearn.cluster import KMeans  # seconds that random choice does without

    known = ~np.isnan(labels)
    model = KMeans(min(count + int(known.sum()), len(features)), random_state=seed)
    clusters = model.fit_predict(features)
    distance = np.linalg.norm(features - model.cluster_centers_[clusters], axis=1)
    taken = set(clusters[known].tolist())
    sizes = np.bincount(clusters)
    largest_first = np.argsort(-sizes, kind="stable").tolist()
    free = [cluster for cluster in largest_first if sizes[cluster] and cluster not in taken]
    members = (np.flatnonzero(clusters == cluster) for cluster in free)
    return np.array([found[distance[found].argmin()] for found in members][:count], np.int64)


def _of_activeml(name: str, **options: Any) -> Method:
    """A query strategy of scikit-activeml that needs features and the labels there are."""

    def method(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
        strategy = getattr(_activeml("pool"), name)(random_state=seed, **options)
        return np.asarray(strategy.query(features, labels, batch_size=count))

    return method


def drop_query(features: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """DropQuery (Gupte et al. 2024): where a linear probe on part of the features doubts, spread out by k-means.

    Raises:
      ValueError: the labels that there are have fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression

    if len(classes := np.unique(labels[~np.isnan(labels)])) < 2:
        raise ValueError("dropquery asks a probe, which needs labeled images of at least two classes: give --labels")
    probe = _activeml("classifier").SklearnClassifier(LogisticRegression(max_iter=5000), classes=classes)
    # Its k-means would draw anew each time.
    strategy = _activeml("pool").DropQuery(random_state=seed, cluster_algo_dict={"random_state": seed})
    return np.asarray(strategy.query(features, labels, clf=probe, batch_size=count))


METHODS: dict[str, Method] = {
    "random": random,
    "kmeans": kmeans,
    "typiclust": _of_activeml("TypiClust"),  # Hacohen et al. 2022
    "maxherding": _of_activeml("MaxHerding"),  # Bae et al. 2024
    "coreset": _of_activeml("CoreSet"),  # Sener and Savarese 2018
    "probcover": _of_activeml("ProbCover"),  # Yehuda et al. 2022
    "dropquery": drop_query,
}


def select(
    method: str,
    features: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    count: int,
    folders: str,
    alike: float,
    seed: int,
) -> tuple[np.ndarray, list[str]]:
    """Chooses images without a label, none of them nearly the same as another or as one that has a label.

    Args:
      method: a row of METHODS.
      features: float [n, width].
      labels: int [n], -1 where not known.
      names: of the images, relative paths.
      count: how many.
      folders: one of FOLDERS: how many each folder at the top gives.
      alike: cosine similarity from which two images count as the same.
      seed: of all that is drawn.

    Returns:
      Places in the order of choice, and lines for people.

    Raises:
      ValueError: nothing is left to choose, or the method lacks something.
    """
    if not np.isfinite(features.sum(dtype=np.float64)):
        raise ValueError("the features hold numbers that are not finite; make the embedding again with other weights")
    chooser = _Chooser(METHODS[method], features, labels, alike, seed)
    told: list[str] = []
    groups = _groups(names, folders)
    free = {name: places[labels[places] < 0] for name, places in groups.items()}
    if not any(map(len, free.values())):
        raise ValueError("every image has a label already")
    if count > (there := sum(map(len, free.values()))):
        told.append(f"{counted(there, 'image')} of {count}: no others are without a label")
    chosen = np.empty(0, np.int64)
    for name, wanted in _shares(count, {n: len(left) for n, left in free.items()}, even=folders == "even").items():
        left = free[name]
        if len(left) > MOST:
            told.append(f"{len(left):,} images are many to compare each with each: {MOST:,} drawn at random take part")
            left = np.sort(np.random.default_rng(seed).permutation(left)[:MOST])
        found = chooser.choose(left, chosen, wanted)
        if len(found) < wanted:
            here = f" in {name!r}" if folders else ""
            told.append(f"{counted(len(found), 'image')} of {wanted}{here}: the others are nearly the same as these")
        chosen = np.concatenate([chosen, found])
    if (labeled := int((labels >= 0).sum())) > MOST:
        told.append(f"{labeled:,} labels are many: surroundings of {MOST:,} drawn at random count as covered")
    return chosen, told


@dataclasses.dataclass(frozen=True)
class _Chooser:
    """What stays the same from one choice to the next; see `select`."""

    method: Method
    features: np.ndarray
    labels: np.ndarray
    alike: float
    seed: int

    def choose(self, left: np.ndarray, before: np.ndarray, wanted: int) -> np.ndarray:
        """Chooses among those that are left; asks again, without what is nearly the same, until enough are found."""
        labeled, found = np.flatnonzero(self.labels >= 0), np.empty(0, np.int64)
        left = left[~self._are_alike(left, labeled)]
        if len(labeled) > MOST:
            labeled = np.sort(np.random.default_rng(self.seed).permutation(labeled)[:MOST])
        while len(found) < wanted:
            chosen = np.concatenate([before, found])
            left = left[~self._are_alike(left, chosen)]
            if not len(left):
                break
            # What is chosen already counts as labeled, with a class of its own: its surroundings are covered.
            seen = np.concatenate([left, labeled, chosen])
            own_class = np.full(len(chosen), self.labels.max() + 1.0)
            known = np.concatenate([np.full(len(left), np.nan), self.labels[labeled], own_class])
            asked = min(wanted - len(found), len(left))
            with warnings.catch_warnings():
                # Fewer distinct images than clusters: those that are missing are asked for again.
                warnings.simplefilter("ignore", ConvergenceWarning)
                places = seen[self.method(self._unit_length(seen), known, asked, self.seed)]
            if not len(places):
                break
            for place in places:
                if not self._are_alike(place[None], found)[0]:
                    found = np.append(found, place)
        return found

    def _are_alike(self, places: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether each image is nearly the same as one of the others, bool [places]."""
        alike, these = np.zeros(len(places), bool), self._unit_length(places)
        for start in range(0, len(others), _COMPARED_AT_ONCE):
            some = self._unit_length(others[start : start + _COMPARED_AT_ONCE])
            alike |= (these @ some.T).max(axis=1, initial=-np.inf) >= self.alike
        return alike

    def _unit_length(self, places: np.ndarray) -> np.ndarray:
        """Features of some images, float32; of a million images never all at once."""
        features = self.features[places].astype(np.float32)
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _groups(names: Sequence[str], folders: str) -> dict[str, np.ndarray]:
    """Folder at the top -> places of its images; all of them under '' where folders have no shares."""
    if not folders:
        return {"": np.arange(len(names))}
    tops = np.array([name.partition("/")[0] if "/" in name else "" for name in names])
    return {str(top): np.flatnonzero(tops == top) for top in np.unique(tops)}


def _shares(count: int, free: dict[str, int], *, even: bool) -> dict[str, int]:
    """How many of `count` each group gives: the same, or in proportion to what is free; largest remainders first.

    What a group cannot give, the others do.
    """
    most = np.array(list(free.values()))
    wanted, full = min(count, int(most.sum())), most == 0
    while True:
        weights = np.where(full, 0.0, 1.0 if even else most)
        exact = np.where(full, most, (wanted - most[full].sum()) * weights / max(weights.sum(), 1e-12))
        if not (exact > most).any():
            break
        full |= exact > most
    shares = np.floor(exact).astype(int)
    shares[np.argsort(-(exact - shares), kind="stable")[: wanted - shares.sum()]] += 1
    return {name: int(share) for name, share in zip(free, shares, strict=True)}


def check(method: str) -> None:
    """Raises ImportError where what a method needs is not installed."""
    if method not in ("random", "kmeans"):
        _activeml("pool")


def _activeml(module: str) -> Any:
    try:
        return importlib.import_module(f"skactiveml.{module}")
    except ImportError as error:
        raise ImportError(f"this method needs scikit-activeml: {extras.install_line('select')}") from error
