"""Open what a config names: training set, evaluation set, and the labeled/unlabeled split."""

import dataclasses
import hashlib
import json
import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from semivit_jax.config import Config, DataConfig
from semivit_jax.data import label_lists, splits
from semivit_jax.data.sources import folder, folder_labels
from semivit_jax.data.sources.errors import DatasetError, NoSplitError
from semivit_jax.data.sources.image_set import ImageSet, Subset
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.data.sources.listing import Listing
from semivit_jax.data.splits import Split
from semivit_jax.files import Path, read_json, writing
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


def open_task(config: Config, *, workdir: Path | None, label_free: tuple[str, ...]) -> TaskData:
    """Opens the images of a config and draws its split.

    Writes `split.csv` and `listing.json` into `workdir`, or checks that listing and split there are these; with
    workdir None nothing is written.

    Args:
      config: names the images.
      workdir: of the run.
      label_free: stages that need no labels: where the config has no others, images without any will do.

    Raises:
      DatasetError: if the data set is not there (the message says where it was looked for and how to prepare
        it) or cannot be used, has no image to evaluate on, or is another one than the workdir's.
      SplitError: if the split cannot be made, or the workdir holds another one.
    """
    needs_labels = not set(config.stages) <= set(label_free)
    data = dataclasses.replace(config.data, validation_share=_validation_share(config.data, workdir))
    train, train_listing = _open(data, data.train_split, class_names=None)
    if len(train_listing.class_names) < 2 and needs_labels:
        raise DatasetError(_too_few_classes(train_listing, data, label_free))
    split = _choose_split(train_listing, data, seed=config.seed)
    hashes = [train_listing.content_hash()]
    if data.eval_split:
        evaluation, eval_listing = _open(data, data.eval_split, class_names=train_listing.class_names)
        hashes.append(eval_listing.content_hash())
    else:
        evaluation = train.subset(split.validation)
    if needs_labels:  # the others evaluate nothing
        evaluation = _with_labels(evaluation, data, known=int((train.labels >= 0).sum()), label_free=label_free)
    if (
        needs_labels
        and not data.eval_split
        and (line := splits.not_validated(split, train.labels, train_listing.class_names))
    ):
        _log.warning("%s", line)
    listing_hash = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    task = TaskData(
        train=train,
        eval=evaluation,
        class_names=train_listing.class_names,
        split=split,
        listing_hash=listing_hash,
        split_hash=splits.split_hash(split, listing_hash),
    )
    if workdir is not None:
        _check_listing(workdir / "listing.json", task)
        splits.write_or_compare(workdir / "split.csv", split, names=train.names, labels=train.labels)
        _write_summary(workdir / "listing.json", task)
    return task


_MOST_FOLDERS = 20  # in a message
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
            images = _open(config.data, name, class_names=task.class_names)[0]
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


def _open(data: DataConfig, split: str, *, class_names: Sequence[str] | None) -> tuple[ImageSet, Listing]:
    """Images and listing of one split; `class_names` are those of training, None for training."""
    if data.dataset == "own_folder":
        return _open_own_folder(data, split, class_names=class_names)
    from semivit_jax.data.sources import digits, tfds_source  # load tensorflow_datasets, which folders do without

    data_dir = pathlib.Path(data.data_dir).expanduser() if data.data_dir else cache_dir() / "tfds"
    if data.dataset == "digits":
        digits.prepare(data_dir)
    source = tfds_source.open_split(data.dataset, split, data_dir=data_dir, cache_dir=cache_dir())
    if class_names is not None and source.listing.class_names != tuple(class_names):
        raise DatasetError(f"the splits {data.train_split!r} and {split!r} of {data.dataset!r} have different classes")
    return ImageSet(source.records, source.listing.names, source.listing.labels), source.listing


def _open_own_folder(data: DataConfig, split: str, *, class_names: Sequence[str] | None) -> tuple[ImageSet, Listing]:
    """`split` is a sub-folder of the root, '' the root itself; evaluation folders have class sub-folders."""
    if not data.root:
        raise DatasetError("config.data.root is empty; give the folder of images")
    top = pathlib.Path(data.root).expanduser()
    root = top / split
    if top.is_dir() and not root.is_dir():
        raise NoSplitError(
            f"config.data.root {str(top)!r} has no split {split!r}, which would be a sub-folder with one "
            f"sub-folder per class; there are: {', '.join(_split_folders(top)) or 'none'}"
        )
    for_training = class_names is None
    opened = folder.open_folder(
        root,
        labels_csv=pathlib.Path(data.labels).expanduser() if data.labels and for_training else None,
        class_names=class_names,
        cache_dir=cache_dir(),
    )
    return ImageSet(opened.records, opened.listing.names, opened.listing.labels), opened.listing


def _split_folders(root: pathlib.Path) -> list[str]:
    """Sub-folders that could be splits, for a message: those with sub-folders."""
    inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path.name for path in inside if any(below.is_dir() for below in path.iterdir())][:_MOST_FOLDERS]


def _too_few_classes(listing: Listing, data: DataConfig, label_free: tuple[str, ...]) -> str:
    by_folder = data.dataset == "own_folder" and not data.labels
    why = folder_labels.too_few_classes(listing.class_names, listing.names, by_folder=by_folder)
    give = " Give such a file as config.data.labels." if by_folder else ""
    return f"{why}.{give} With fewer than two classes only config.stages = {label_free} can run"


def _validation_share(data: DataConfig, workdir: Path | None) -> float:
    """`splits.validation_share`, but for runs of earlier versions: those go on with the images that they kept back."""
    listing = workdir / "listing.json" if workdir is not None else None
    if listing is not None and listing.exists() and read_json(listing)["num_validation"]:
        return data.validation_share
    return splits.validation_share(data)


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


def _choose_split(listing: Listing, data: DataConfig, *, seed: int) -> Split:
    """The split of the config; an own folder with no rule of its own uses every label there is."""
    if data.label_list:
        return _listed_split(listing, data, seed=seed)
    takes_all = data.dataset == "own_folder" and not (data.labels_per_class or data.label_fraction)
    return splits.choose_split(
        listing.labels,
        labels_per_class=data.labels_per_class,
        label_fraction=1.0 if takes_all else data.label_fraction,
        validation_share=data.validation_share,
        seed=seed,
        class_names=listing.class_names,
    )


def _listed_split(listing: Listing, data: DataConfig, *, seed: int) -> Split:
    """The labeled images that a list names, and validation images among the others."""
    labeled = label_lists.read(pathlib.Path(data.label_list).expanduser(), listing.names)
    unknown = [listing.names[int(i)] for i in labeled if listing.labels[i] < 0]
    if unknown:
        raise splits.SplitError(f"{data.label_list}: {unknown[0]!r} has no label in the training set")
    split = splits.listed_split(
        listing.labels,
        labeled=labeled,
        validation_share=data.validation_share,
        seed=seed,
        class_names=listing.class_names,
    )
    if line := splits.not_labeled(split, listing.labels, listing.class_names):
        _log.warning("%s", line)
    return split


def _check_listing(path: Path, task: TaskData) -> None:
    """Refuses to go on with other files or labels: places in the streams would belong to other images."""
    if not path.exists():
        return
    stored = read_json(path)
    if stored["listing_hash"] != task.listing_hash:
        then, now = (
            f"{counted(train, 'training image')} and {counted(evaluation, 'evaluation image')}"
            for train, evaluation in ((stored["num_train"], stored["num_eval"]), (len(task.train), len(task.eval)))
        )
        raise DatasetError(
            f"{path.parent} was begun with other files, names or labels: {then} then, {now} now. Put back what has "
            "changed, or use another workdir"
        )


def _write_summary(path: Path, task: TaskData) -> None:
    summary = {
        "listing_hash": task.listing_hash,
        "split_hash": task.split_hash,
        "class_names": list(task.class_names),
        "num_train": len(task.train),
        "num_labeled": len(task.split.labeled),
        "num_unlabeled": len(task.split.unlabeled),
        "num_validation": len(task.split.validation),
        "num_eval": len(task.eval),
    }
    with writing(path) as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode())
