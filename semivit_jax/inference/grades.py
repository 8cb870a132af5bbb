"""Hold what grading finds: by which protocol, the scores of all images, and the answer to each of them."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.data.sources.image_set import ImageSet
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


def of_batch(logits: jax.Array) -> dict[str, jax.Array]:
    """'guesses' and 'probs' (batch, k) of logits (batch, classes)."""
    probs, guesses = jax.lax.top_k(jax.nn.softmax(promote(logits), axis=-1), min(TOP, logits.shape[-1]))
    return {"guesses": guesses, "probs": probs.astype(jnp.float32)}


def joined(batches: list[dict[str, Any]]) -> Answers:
    """Answers to the real images of batches that follow each other: 'guesses', 'probs', 'label' and 'mask'."""
    rows = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
    real = np.flatnonzero(rows["mask"] > 0)
    return Answers(real, rows["label"][real], rows["guesses"][real], rows["probs"][real])


def to_json(grades: Grades, *, most: int | None = None) -> dict[str, Any]:
    """Plain dict, as `semivit eval --out` writes it and the report keeps it; shares in 0..1.

    Args:
      grades: what was found.
      most: classes up to which the confusion matrix is among it; None always has it.
    """
    names = grades.class_names
    whole = most is None or len(names) <= most
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
                **({"confusion": found.confusion.tolist()} if whole else {}),
            }
            for tree, found in grades.found.items()
        },
    }


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
