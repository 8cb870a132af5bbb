"""Ask one or several classifiers about every training image, and join their answers into a bank."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import class_rows
from semivit_jax.config import Config, ConfigError
from semivit_jax.data import bank
from semivit_jax.data.bank import NOBODY, Bank
from semivit_jax.data.dataset import TaskData
from semivit_jax.inference import features
from semivit_jax.inference.grade import seen_as
from semivit_jax.inference.trained import CLASS, Trained, check_classes
from semivit_jax.stages.stage import ImageDraws, see
from semivit_jax.training import sharding
from semivit_jax.training.evaluate import batches_of

Answers = Callable[[Any], np.ndarray]  # a batch of images -> probabilities [rows, K] in the order of the data's classes


def _as_means(probs: np.ndarray) -> np.ndarray:
    return probs.mean(axis=0)


def _as_votes(probs: np.ndarray) -> np.ndarray:
    votes = np.zeros(probs.shape[1:], probs.dtype)
    for best in probs.argmax(axis=-1):
        votes[np.arange(len(best)), best] += 1
    return votes / len(probs)


COMBINED: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # probabilities [runs, rows, K] -> [rows, K]
    "means": _as_means,
    "votes": _as_votes,  # shares of the votes: runs that are unequally sure count alike
}


def make_bank(classifiers: Sequence[Trained], config: Config, task: TaskData, *, combine: str) -> Bank:
    """What the classifiers say of all training images, each on the view it was trained for and at its temperature.

    Args:
      classifiers: their classes have the names of the data's, in any order.
      config: names the images, and how they are read.
      task: of the config.
      combine: a row of COMBINED.

    Raises:
      ConfigError: a classifier has other classes than the data.
    """
    mesh = sharding.make_mesh(1)
    configs = [_seen(config, one) for one in classifiers]
    answers = [_answers(one, c, task.class_names, mesh) for one, c in zip(classifiers, configs, strict=True)]
    batches = [batches_of(task.train, c, label=CLASS, num_devices=mesh.size) for c in configs]
    classes, probs, k = [], [], bank.width(len(task.class_names))
    tracked = console.track(zip(*batches, strict=True), "asking, batches", total=len(batches[0]))
    for batch in tracked:
        found = np.stack([answer(one["image"]) for answer, one in zip(answers, batch, strict=True)])
        joined = COMBINED[combine](found)
        best = np.argsort(-joined, axis=-1, kind="stable")[:, :k]
        read = np.all([one["mask"] > 0 for one in batch], axis=0)[:, None]  # by every classifier
        classes.append(np.where(read, best, NOBODY))
        probs.append(np.where(read, np.take_along_axis(joined, best, axis=-1), 0.0))
    number = len(task.train)  # what follows is padding
    facts = {"combine": combine, "sources": [_source(one) for one in classifiers]}
    return Bank(
        np.concatenate(classes)[:number].astype(np.int32),
        np.concatenate(probs)[:number].astype(np.float32),
        task.class_names,
        bank.hash_of(task.train.names),
        facts,
    )


def right(found: Bank, labels: np.ndarray) -> tuple[int, int]:
    """(images with a known label of which the most probable class is right, images with a known label)."""
    known = (labels >= 0) & (found.classes[:, 0] != NOBODY)
    return int((found.classes[known, 0] == labels[known]).sum()), int(known.sum())


def _seen(config: Config, trained: Trained) -> Config:
    return dataclasses.replace(config, data=seen_as(config.data, trained.weights.preprocessing))


def _answers(trained: Trained, config: Config, class_names: Sequence[str], mesh: jax.sharding.Mesh) -> Answers:
    check_classes(trained)
    theirs = trained.weights.output_names
    if not trained.weights.spec.num_classes or sorted(theirs) != sorted(class_names):
        difference = class_rows.mismatch(theirs, class_names) or "it has no classifier"
        raise ConfigError(f"{trained.source} cannot be asked about these images: {difference}")
    order = np.array([theirs.index(name) for name in class_names])
    logits, view = features.network(trained).logits, features.device_view(config.data)
    temperature, params = trained.weights.preprocessing.temperature, features.spread(trained.weights.params, mesh)
    rows = sharding.eval_batch(mesh)

    def probs(params: Any, images: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits(params, see(images, ImageDraws(), view), None) / temperature)

    compiled = jax.jit(probs)
    return lambda images: np.asarray(compiled(params, sharding.put(images, rows)), np.float32)[:, order]


def _source(trained: Trained) -> dict[str, Any]:
    return {"weights": trained.source, "temperature": trained.weights.preprocessing.temperature}
