"""Split the training images into labeled, unlabeled and validation images.

A split is a pure function of the labels and a seed, so every host works out the same one. Each class has its
own random order, keyed by (seed, class): the labeled images are its beginning and the validation images its
end. Hence 4 labels per class include the 1 label per class of the same seed, and a validation share does not
move them.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from semivit_jax.config import DataConfig
from semivit_jax.words import counted, few

NONE = np.empty(0, np.int64)  # positions


class SplitError(ValueError):
    """A split that cannot be made, or one that differs from the split a workdir was started with."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Sorted int64 positions in the training set; the three are disjoint, and together all of it."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray

    @property
    def training(self) -> np.ndarray:
        """All images that training may see: labeled and unlabeled ones, sorted."""
        return np.sort(np.concatenate([self.labeled, self.unlabeled]))


def validation_share(data: DataConfig) -> float:
    """Share of the images with known labels that is kept back for validation.

    None of an own folder that has evaluation images apart: nothing would use them. The recipe's share cannot know that.
    """
    return 0.0 if data.dataset == "own_folder" and data.eval_split else data.validation_share


def choose_split(
    labels: np.ndarray,
    *,
    labels_per_class: int = 0,
    label_fraction: float = 0.0,
    validation_share: float,
    seed: int,
    class_names: Sequence[str],
    seen: np.ndarray = NONE,
) -> Split:
    """Draws a class-balanced split.

    Args:
      labels: int [n], class of every training image; -1 where it is not known. Such images are unlabeled.
      labels_per_class: labeled images per class; 0 when `label_fraction` says how many.
      label_fraction: share of a class's images, after validation images are taken, that is labeled; at least
        one image.
      validation_share: share of the images with known labels that is kept back, spread over the classes as
        evenly as whole images allow; the seed draws the classes that one more falls to. A class always keeps one
        image for training.
      seed: of the draw.
      class_names: name of every class, for messages.
      seen: positions that are not for validation, since earlier weights were trained on them with a label. A class
        of which images are kept back labels these first.

    Raises:
      SplitError: if a class has fewer images than `labels_per_class`, naming the class and its size.
    """
    if (labels_per_class > 0) == (label_fraction > 0):
        raise SplitError(
            f"labels_per_class is {labels_per_class} and label_fraction {label_fraction}; exactly one must be above 0"
        )
    members = _members_by_class(labels, len(class_names))
    num_validation = _apportion(validation_share, [len(indices) for indices in members], seed)
    labeled, validation = [], []
    for class_id, (indices, wanted) in enumerate(zip(members, num_validation, strict=True)):
        order = np.random.default_rng((seed, class_id)).permutation(indices)
        known = np.isin(order, seen)
        kept_back = min(wanted, int((~known).sum()))
        if kept_back:
            order = np.concatenate([order[known], order[~known]])
        available = len(indices) - kept_back
        if labels_per_class > available:
            rest = f" ({kept_back} of them kept back for validation)" if kept_back else ""
            raise SplitError(
                f"labels_per_class is {labels_per_class}, but class {class_names[class_id]!r} has "
                f"{counted(len(indices), 'image')} with a known label{rest}; at most {available} are possible"
            )
        count = labels_per_class or max(1, round(label_fraction * available)) if available else 0
        labeled.append(order[:count])
        validation.append(order[available:])
    return split_from_roles(len(labels), labeled=_join(labeled), validation=_join(validation))


def listed_split(
    labels: np.ndarray,
    *,
    labeled: np.ndarray,
    validation_share: float,
    seed: int,
    class_names: Sequence[str],
    seen: np.ndarray = NONE,
) -> Split:
    """Split with the given labeled positions; validation images are drawn as `choose_split` draws them.

    They are the last images of a class's order that are not in `labeled`. So a list that `choose_split` drew gives,
    with the same seed, the same split again. None of those `seen` by earlier weights is taken; they may leave fewer.

    Raises:
      SplitError: if a class has too few images beside those listed.
    """
    members = _members_by_class(labels, len(class_names))
    num_validation = _apportion(validation_share, [len(indices) for indices in members], seed)
    validation = []
    for class_id, (indices, kept_back) in enumerate(zip(members, num_validation, strict=True)):
        order = np.random.default_rng((seed, class_id)).permutation(indices)
        rest = order[~np.isin(order, labeled)]
        if kept_back > len(rest):
            raise SplitError(
                f"config.data.validation_share is {validation_share}, which keeps back {counted(kept_back, 'image')} "
                f"of class {class_names[class_id]!r}, but the list of labeled images leaves {len(rest)} of its "
                f"{len(indices)}; give a smaller share or config.data.eval_split"
            )
        rest = rest[~np.isin(rest, seen)]
        validation.append(rest[max(0, len(rest) - kept_back) :])
    return split_from_roles(len(labels), labeled=labeled, validation=_join(validation))


def not_labeled(split: Split, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Which classes have images and no labeled one, in a line; '' where there is no such class."""
    missing = _missing(labels[split.labeled], labels[labels >= 0], class_names)
    if not missing:
        return ""
    return (
        f"the list of labeled images names none of {len(missing)} of {counted(len(class_names), 'class', 'classes')}, "
        f"which cannot be learned: {few(missing)}; add images of them to the list, or take their folders or labels away"
    )


def not_validated(split: Split, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Which classes have labeled images and none for validation, in a line; '' where there is no such class."""
    missing = _missing(labels[split.validation], labels[split.labeled], class_names)
    if not missing:
        return ""
    return (
        f"{len(missing)} of {counted(len(class_names), 'class', 'classes')} without a validation image, so accuracy "
        f"says nothing of {few(missing)}; label more images of them, raise config.data.validation_share, or name "
        "evaluation images with config.data.eval_split"
    )


def _missing(labels: np.ndarray, of: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Names of the classes that some labels lack `of` others, in the order of the classes."""
    return [str(class_names[label]) for label in np.setdiff1d(of, labels).tolist()]


def split_from_roles(num_images: int, *, labeled: np.ndarray, validation: np.ndarray) -> Split:
    """Split with the given labeled and validation positions; every other image is unlabeled."""
    unlabeled = np.ones(num_images, bool)
    unlabeled[labeled] = False
    unlabeled[validation] = False
    return Split(
        labeled=np.sort(labeled).astype(np.int64),
        unlabeled=np.flatnonzero(unlabeled),
        validation=np.sort(validation).astype(np.int64),
    )


def split_hash(split: Split, listing_hash: str) -> str:
    """Content hash: the roles of all images of one listing."""
    digest = hashlib.sha256(listing_hash.encode())
    for indices in (split.labeled, split.unlabeled, split.validation):
        digest.update(indices.astype("<i8").tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _members_by_class(labels: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Sorted positions of each class; one stable sort, so a thousand classes cost no thousand passes."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(num_classes + 1))
    return [order[start:stop] for start, stop in itertools.pairwise(bounds)]


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts])  # there may be no class at all


def _apportion(share: float, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Whole numbers near share * size that sum to round(share * total), each below its size.

    Largest remainders first. Equal ones (often most of them: classes of one size) go by a draw, so that no class is
    left out on every seed. A class that can spare no image leaves its turn to the next.
    """
    exact = share * np.asarray(sizes)
    counts = np.floor(exact).astype(int)
    missing = round(share * sum(sizes)) - int(counts.sum())
    drawn = np.random.default_rng((seed, len(sizes))).permutation(len(sizes))  # number of the first class that is none
    remainders = np.round(exact - counts, 9)  # 0.2 * 9 and 0.2 * 14 leave the same, but for rounding
    by_remainder = drawn[np.argsort(-remainders[drawn], kind="stable")]
    spared = by_remainder[counts[by_remainder] < np.asarray(sizes)[by_remainder] - 1]
    counts[spared[:missing]] += 1
    return np.minimum(counts, np.maximum(np.asarray(sizes) - 1, 0))
