"""Choose the images to grade weights on: those that a run kept back, those of a config, or a folder of photos."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import init_from
from semivit_jax.config import Config, ConfigError, DataConfig
from semivit_jax.data.dataset import ROLES, TaskData, open_as_begun, open_split, open_task
from semivit_jax.data.opening import Photos, open_photos
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.files import Path
from semivit_jax.stages import label_free
from semivit_jax.words import counted, few

FITTED_ON = ("labeled", "train")  # splits that hold the images a probe is fitted on


class Graded(NamedTuple):
    """Images to grade.

    Attributes:
      images: their labels are numbers of `class_names`.
      labeled: that a probe is fitted on, with the same classes; None where none are known.
      class_names: in order.
      dataset: for people.
      split: for people.
    """

    images: ImageSet
    labeled: ImageSet | None
    class_names: tuple[str, ...]
    dataset: str
    split: str


def of_run(config: Config, run: Path, split: str) -> Graded:
    """Images of a split as the run has drawn it, as far as they are still there."""
    task = open_as_begun(config, workdir=run, label_free=label_free())
    return _of_task(config, task, split, open_split(config, task, split))


def of_config(config: Config, source: Path, split: str) -> Graded:
    """Images of a split that the config draws, without those that the weights were trained on with a label.

    These are graded where the split that was asked for holds them by its nature.
    """
    task = open_task(config, workdir=None, label_free=label_free())
    images = open_split(config, task, split)
    if split in FITTED_ON:
        return _of_task(config, task, split, images)
    inside = config.data.train_split if split in ROLES else split or config.data.eval_split or config.data.train_split
    seen = _seen(images, source, config.data, inside)
    if len(seen):
        console.say(f"warning: {_trained_on(images, seen)}; left out")
        images = images.subset(np.setdiff1d(np.arange(len(images)), seen))
    return _of_task(config, task, split, images)


def of_photos(
    config: Config, photos: Photos, source: Path, class_names: Sequence[str], labeled: ImageSet | None
) -> Graded:
    """All photos of a folder whose label is a class of the weights; the others cannot be graded, and are told.

    Args:
      config: says how they are read.
      photos: the folder.
      source: of the weights.
      class_names: of the weights, in order.
      labeled: as in `Graded`.

    Raises:
      ConfigError: none of the photos has such a label.
    """
    images, theirs = open_photos(photos)
    number = {name: index for index, name in enumerate(class_names)}
    known = np.array([number.get(name, -1) for name in theirs] + [-1], np.int32)[images.labels]
    unknown = Counter(theirs[label] for label in images.labels[(images.labels >= 0) & (known < 0)])
    unlabeled = int((images.labels < 0).sum())
    if unknown:
        told = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(5))
        left = f"{counted(sum(unknown.values()), 'photo')} of {counted(len(unknown), 'class', 'classes')}"
        console.say(f"warning: {left} that the weights do not know left out: {told}")
    if unlabeled:
        console.say(f"warning: {counted(unlabeled, 'photo')} without a label left out")
    graded = np.flatnonzero(known >= 0)
    if not len(graded):
        raise ConfigError(f"no photo in {photos.folder} has the label of a class of {source}: {few(list(class_names))}")
    missing = [name for name, index in number.items() if not np.any(known == index)]
    if missing:
        console.say(f"{counted(len(missing), 'class', 'classes')} without a photo there: {few(missing)}")
    images = ImageSet(images.records, images.names, known).subset(graded)
    data = dataclasses.replace(config.data, dataset="own_folder", root=str(photos.folder), train_split="")
    seen = _seen(images, source, data, "")
    if len(seen):
        console.say(f"warning: {_trained_on(images, seen)}")
    return Graded(images, labeled, tuple(class_names), str(photos.folder), "all")


def _of_task(config: Config, task: TaskData, split: str, images: ImageSet) -> Graded:
    labeled = task.train.subset(task.split.labeled)
    shown = split or config.data.eval_split or "validation"
    return Graded(images, labeled, task.class_names, config.data.dataset, shown)


def _seen(images: ImageSet, source: Path, data: DataConfig, split: str) -> np.ndarray:
    """Places of the images that the weights were trained on with a label."""
    seen = init_from.seen(source, label_free())
    return np.empty(0, np.int64) if seen is None else seen.positions(images, data, split)


def _trained_on(images: ImageSet, seen: np.ndarray) -> str:
    named = few([images.names[int(i)] for i in seen])
    return f"the weights were trained with a label on {counted(len(seen), 'image')} of these: {named}"
