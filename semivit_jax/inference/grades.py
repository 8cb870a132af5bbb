"""Hold what grading finds: by which protocol, the scores of all images, and the answer to each of them."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.ops import confusion
from semivit_jax.ops.confusion import Confusion
from semivit_jax.ops.losses import promote
from semivit_jax.ops.scores import Scores, thirds
from semivit_jax.training import probes

PROTOCOLS = {
    "head": "the classifier's own head",
    "knn": (
        f"k-nearest neighbours on frozen features: the {probes.NEIGHBOURS} labeled images of highest cosine "
        f"similarity, or all where there are fewer, vote with exp(similarity / {probes.TEMPERATURE})"
    ),
    "linear": "logistic regression (scikit-learn, C = 1) on standardised frozen features of the labeled images",
}
TOP = 5  # guesses that are kept of each image
MOST_IN_MATRIX = 1000  # classes whose confusions are told as a matrix; of more, as the pairs that occur


@dataclasses.dataclass(frozen=True)
class Answers:
    """The first guesses of a classifier, of the images that could be read.

    Attributes:
      places: int [n], in the set that was graded.
      labels: int [n], the classes that are right.
      guesses: int [n, k], most probable first, k at most 5.
      probs: float32 [n, k], their probabilities.
    """

    places: np.ndarray
    labels: np.ndarray
    guesses: np.ndarray
    probs: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """bool [n], whether the first guess is the label."""
        return self.guesses[:, 0] == self.labels

    def confusion(self, num_classes: int) -> Confusion:
        """How many images of each class were taken for which."""
        return confusion.count(self.labels, self.guesses[:, 0], num_classes=num_classes)


class Calibrated(NamedTuple):
    """Scores of logits that were divided by a temperature: loss and calibration error differ, the rest is the same."""

    temperature: float
    scores: Scores


@dataclasses.dataclass(frozen=True)
class Grades:
    """What was graded, how, and the scores and answers per set of weights ('params', 'ema_params').

    Attributes:
      found: of the logits as they are.
      answers: with the probabilities that `semivit predict` tells: at the temperature of the weights.
      calibrated: of the weights that have a temperature.
      labeled: labeled images of each class, by which classes are common or rare; None where that is not known.
    """

    source: str
    dataset: str
    split: str
    protocol: str
    class_names: tuple[str, ...]
    found: dict[str, Scores]
    images: ImageSet
    answers: dict[str, Answers]
    calibrated: dict[str, Calibrated]
    labeled: tuple[int, ...] | None


def of_batch(logits: jax.Array, *, temperature: float = 1.0) -> dict[str, jax.Array]:
    """'guesses' and 'probs' (batch, k) of logits (batch, classes); the temperature divides them for the latter alone.

    Guesses are in the order of the logits, not of probabilities: what a softmax rounds to equals stays in order, so
    that the first one is right where accuracy counts it.
    """
    _, guesses = jax.lax.top_k(logits, min(TOP, logits.shape[-1]))
    probs = jnp.take_along_axis(jax.nn.softmax(promote(logits / temperature), axis=-1), guesses, axis=-1)
    return {"guesses": guesses, "probs": probs.astype(jnp.float32)}


def joined(batches: list[dict[str, Any]]) -> Answers:
    """Answers to the real images of batches that follow each other: 'guesses', 'probs', 'label' and 'mask'."""
    rows = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
    real = np.flatnonzero(rows["mask"] > 0)
    return Answers(real, rows["label"][real], rows["guesses"][real], rows["probs"][real])


def to_json(grades: Grades) -> dict[str, Any]:
    """Plain dict, as `semivit eval --out` writes it and the report keeps it; shares in 0..1."""
    names = grades.class_names
    return {
        "source": grades.source,
        "dataset": grades.dataset,
        "split": grades.split,
        "protocol": grades.protocol,
        "class_names": list(names),
        "results": {
            tree: {
                "num_images": found.num_images,
                **numbers(grades, found),
                **({} if grades.protocol == PROTOCOLS["knn"] else {"bins": _bins(found)}),
                **_calibrated(grades, tree),
                "class_acc": dict(zip(names, found.class_acc, strict=True)),
                **_confusions(found.confusion),
            }
            for tree, found in grades.found.items()
        },
    }


def _confusions(found: Confusion) -> dict[str, Any]:
    """The matrix as rows of [label][prediction]; of many classes the pairs that occur: [label, prediction, images]."""
    if found.num_classes <= MOST_IN_MATRIX:
        return {"confusion": found.matrix().tolist()}
    return {"confusion_pairs": np.stack([found.labels, found.predictions, found.counts], axis=1).tolist()}


def numbers(grades: Grades, found: Scores) -> dict[str, float]:
    """Votes of neighbours are no probabilities, so they have neither a loss nor a calibration."""
    by_third = {} if grades.labeled is None else thirds(found.class_acc, grades.labeled)
    classes = {"balanced_acc1": found.balanced_acc1, **{f"acc1_{name}": share for name, share in by_third.items()}}
    sure = {} if grades.protocol == PROTOCOLS["knn"] else {"loss": found.loss, "ece": found.ece}
    return {"acc1": found.acc1, "acc5": found.acc5, **classes, **sure}


def _calibrated(grades: Grades, tree: str) -> dict[str, Any]:
    """What the temperature of the weights makes of loss and calibration error; nothing where they have none."""
    if tree not in grades.calibrated:
        return {}
    temperature, found = grades.calibrated[tree]
    sure = {"loss": found.loss, "ece": found.ece, "bins": _bins(found)}
    return {"calibrated": {"temperature": temperature, **sure}}


def _bins(found: Scores) -> list[dict[str, float]]:
    return [one._asdict() for one in found.bins]
