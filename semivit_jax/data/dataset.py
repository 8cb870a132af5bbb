"""Open what a config names: training set, evaluation set, and the labeled/unlabeled split."""

import dataclasses
import logging
import pathlib

import numpy as np

from semivit_jax.config import Config, DataConfig
from semivit_jax.data import label_lists, record, splits
from semivit_jax.data.opening import Opened, open_images, open_split_of
from semivit_jax.data.record import Record
from semivit_jax.data.seen import Seen
from semivit_jax.data.sources import folder_labels
from semivit_jax.data.sources.errors import DatasetError, NoSplitError
from semivit_jax.data.sources.image_set import ImageSet, Subset
from semivit_jax.data.sources.listing import Listing
from semivit_jax.data.splits import NONE, Split
from semivit_jax.files import Path, expanded
from semivit_jax.plan import ImageCounts
from semivit_jax.words import counted, printable

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TaskData:
    """Everything a run needs to know about its images."""

    train: ImageSet  # labeled, unlabeled and validation images; `split` says which is which
    eval: ImageSet
    class_names: tuple[str, ...]
    split: Split
    listing_hash: str  # of names, labels and classes of both sets
    split_hash: str

    @property
    def counts(self) -> ImageCounts:
        """Training images of each role."""
        split = self.split
        per_class = np.bincount(self.train.labels[split.labeled], minlength=len(self.class_names)).tolist()
        return ImageCounts(len(split.training), len(split.labeled), len(split.unlabeled), tuple(per_class))

    @property
    def evaluates_on_validation(self) -> bool:
        """Whether the evaluation images are the validation images, for lack of a split of their own."""
        records = self.eval.records
        return isinstance(records, Subset) and records.records is self.train.records


def open_task(
    config: Config,
    *,
    workdir: Path | None,
    label_free: tuple[str, ...],
    first_host: bool = True,
    seen: Seen | None = None,
) -> TaskData:
    """Opens the images of a config and draws its split; a run that has begun keeps the one it began with.

    Args:
      config: names the images.
      workdir: of the run, which keeps images and split (`record`) or is compared with them; None for neither.
      label_free: stages that need no labels: where the config has no others, images without any will do.
      first_host: whether this host is the one that writes.
      seen: images that the weights to start from were trained on with a label; none of them is kept back.

    Raises:
      DatasetError: if the data set is not there (the message says where it was looked for and how to prepare
        it) or cannot be used, has no image to evaluate on, or is another one than the workdir's.
      SplitError: if the split cannot be made, or the workdir holds another one.
    """
    data = dataclasses.replace(config.data, validation_share=splits.validation_share(config.data))
    opened = open_images(data)
    begun = record.read(workdir) if workdir is not None else None
    if begun is not None:
        split = _split_of(begun, opened, data)
        return _task(config, opened, split, label_free=label_free)
    if len(opened.class_names) < 2 and not set(config.stages) <= set(label_free):
        raise DatasetError(_too_few_classes(opened.listings.train, data, label_free))
    held = seen.positions(opened.train, data, data.train_split) if seen is not None else NONE
    split = _choose_split(opened.listings.train, data, seed=config.seed, seen=held)
    task = _task(config, opened, split, label_free=label_free)
    if workdir is not None and first_host:
        before = [opened.train.names[int(position)] for position in held]
        record.write(workdir, opened.listings, split, num_eval=len(task.eval), labeled_before=before)
    return task


def open_as_begun(config: Config, *, workdir: Path, label_free: tuple[str, ...]) -> TaskData:
    """The images that a run began with, in the roles that it gave them, as far as they are still there.

    What has changed since is said in a line. An image that has another label now has that one.
    """
    begun = record.read(workdir)
    if begun is None:
        return open_task(config, workdir=None, label_free=label_free)
    opened = open_images(config.data)
    changes = begun.changes(opened.listings)
    if not changes:
        return _task(config, opened, begun.split(), label_free=label_free)
    _log.warning("the images have changed since %s began: %s. Those that are new take no part", workdir, changes)
    opened, split = begun.restored(opened)
    return _task(config, opened, split, label_free=label_free)


def changes_since(config: Config, workdir: Path) -> str:
    """What has changed in the images since a run began, in a line; '' where nothing has."""
    begun = record.read(workdir)
    return "" if begun is None else begun.changes(open_images(config.data).listings)


def _split_of(begun: Record, opened: Opened, data: DataConfig) -> Split:
    """The split that a run began with. With other images, places in its streams would belong to others than before."""
    changes = begun.changes(opened.listings)
    if changes:
        raise DatasetError(
            f"{begun.workdir} was begun with other files, names or labels: {changes}. Put back what has changed, or "
            "use another workdir"
        )
    split = begun.split()
    per_class = np.bincount(opened.train.labels[split.labeled], minlength=len(opened.class_names))
    asked = label_lists.read(pathlib.Path(expanded(data.label_list)), opened.train.names) if data.label_list else None
    if (data.labels_per_class and set(per_class.tolist()) != {data.labels_per_class}) or (
        asked is not None and not np.array_equal(asked, split.labeled)
    ):
        raise splits.SplitError(
            f"{begun.workdir / 'split.csv'} holds another split than the config asks for: the label counts, or the "
            "list of labeled images, have changed. Use another workdir, or the old settings"
        )
    return split


def _task(config: Config, opened: Opened, split: Split, *, label_free: tuple[str, ...]) -> TaskData:
    train, evaluation = opened.train, opened.evaluation
    if evaluation is None:
        evaluation = train.subset(split.validation)
    if not set(config.stages) <= set(label_free):  # the others evaluate nothing
        known = int((train.labels >= 0).sum())
        evaluation = _with_labels(evaluation, config.data, known=known, label_free=label_free)
        missing = "" if config.data.eval_split else splits.not_validated(split, train.labels, opened.class_names)
        if missing:
            _log.warning("%s", missing)
    listing_hash = record.listing_hash(opened.listings)
    return TaskData(
        train=train,
        eval=evaluation,
        class_names=opened.class_names,
        split=split,
        listing_hash=listing_hash,
        split_hash=splits.split_hash(split, listing_hash),
    )


ROLES = ("labeled", "unlabeled", "validation", "train")


def open_split(config: Config, task: TaskData, name: str) -> ImageSet:
    """The images of a split, by name, without those whose label is not known.

    Args:
      config: of the task.
      task: opened with that config.
      name: "" for what training evaluates on; one of ROLES, of which "train" is all images that training may
        see; or a split of the data set itself (own_folder: a sub-folder of the root).

    Raises:
      DatasetError: no such split, or none of its images has a label.
    """
    if name in ("", config.data.eval_split):  # first, since data sets too call a split "validation"
        images = task.eval
    elif name in ROLES:
        images = task.train.subset(task.split.training if name == "train" else getattr(task.split, name))
    else:
        try:
            images = open_split_of(config.data, name, class_names=task.class_names)[0]
        except NoSplitError as error:
            raise DatasetError(f"{error}; roles in training: {', '.join(ROLES)}") from error
    known = np.flatnonzero(images.labels >= 0)
    if not len(known):
        raise DatasetError(f"the split {name!r} has no image with a label; roles: {', '.join(ROLES)}")
    return images if len(known) == len(images) else images.subset(known)


def describe(task: TaskData) -> str:
    """One paragraph for people: sizes of the split, number of classes and their names."""
    names = ", ".join(map(printable, task.class_names[:20])) + (", ..." if len(task.class_names) > 20 else "")
    split, classes = task.split, counted(len(task.class_names), "class", "classes")
    sizes = [f"{len(split.labeled)} labeled", f"{len(split.unlabeled)} unlabeled"]
    if task.evaluates_on_validation:
        last = counted(len(split.validation), "validation image")
    else:
        sizes.append(f"{len(split.validation)} validation")
        last = counted(len(task.eval), "evaluation image")
    return f"{', '.join(sizes)} and {last}; {classes}: {names}"


def _too_few_classes(listing: Listing, data: DataConfig, label_free: tuple[str, ...]) -> str:
    by_folder = data.dataset == "own_folder" and not data.labels
    why = folder_labels.too_few_classes(listing.class_names, listing.names, by_folder=by_folder)
    give = " Give such a file as config.data.labels." if by_folder else ""
    return f"{why}.{give} With fewer than two classes only config.stages = {label_free} can run"


def _with_labels(evaluation: ImageSet, data: DataConfig, *, known: int, label_free: tuple[str, ...]) -> ImageSet:
    """The evaluation images whose label is known; the others would count as mistakes.

    Args:
      evaluation: of the task.
      data: of the config.
      known: training images with a known label.
      label_free: stages that would need none, for advice.

    Raises:
      DatasetError: there are none.
    """
    labeled = np.flatnonzero(evaluation.labels >= 0)
    if len(labeled) == len(evaluation) > 0:
        return evaluation
    if not data.eval_split:
        raise DatasetError(
            f"{counted(known, 'image has', 'images have')} a label, too few to keep back "
            f"config.data.validation_share = {data.validation_share} of them for validation, since every class keeps "
            "one for training: label more images, raise the share, or name a split of evaluation images with "
            f"config.data.eval_split. Without any, only config.stages = {label_free} can run"
        )
    split = f"the evaluation split {data.eval_split!r}"
    own_folder = data.dataset == "own_folder"
    rule = f"; those directly in {data.eval_split}/CLASS have the label CLASS, deeper ones have none" * own_folder
    if not len(labeled):
        example = f", {evaluation.names[0]!r} for one" if len(evaluation) else ""
        raise DatasetError(f"none of the {counted(len(evaluation), 'image')} of {split} has a label{rule}{example}")
    missing = counted(len(evaluation) - len(labeled), "image")
    _log.warning("%s of %s left out, without a label%s", missing, split, rule)
    return evaluation.subset(labeled)


def _choose_split(listing: Listing, data: DataConfig, *, seed: int, seen: np.ndarray) -> Split:
    """The split of the config; an own folder with no rule of its own uses every label there is."""
    if data.label_list:
        return _listed_split(listing, data, seed=seed, seen=seen)
    takes_all = data.dataset == "own_folder" and not (data.labels_per_class or data.label_fraction)
    return splits.choose_split(
        listing.labels,
        labels_per_class=data.labels_per_class,
        label_fraction=1.0 if takes_all else data.label_fraction,
        validation_share=data.validation_share,
        seed=seed,
        class_names=listing.class_names,
        seen=seen,
    )


def _listed_split(listing: Listing, data: DataConfig, *, seed: int, seen: np.ndarray) -> Split:
    """The labeled images that a list names, and validation images among the others."""
    labeled = label_lists.read(pathlib.Path(expanded(data.label_list)), listing.names)
    unknown = [listing.names[int(i)] for i in labeled if listing.labels[i] < 0]
    if unknown:
        raise splits.SplitError(f"{data.label_list}: {unknown[0]!r} has no label in the training set")
    split = splits.listed_split(
        listing.labels,
        labeled=labeled,
        validation_share=data.validation_share,
        seed=seed,
        class_names=listing.class_names,
        seen=seen,
    )
    if line := splits.not_labeled(split, listing.labels, listing.class_names):
        _log.warning("%s", line)
    return split
