"""Open the images of the data set that a config names, whatever its kind."""

import atexit
import functools
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from semivit_jax import files
from semivit_jax.config import DataConfig
from semivit_jax.data.sources import folder
from semivit_jax.data.sources.errors import DatasetError, NoSplitError
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.data.sources.listing import Listing
from semivit_jax.files import expanded, why_no_folder

_log = logging.getLogger(__name__)
_MOST_FOLDERS = 20  # in a message


class Photos(NamedTuple):
    """A folder of labeled photos: class sub-folders, or a CSV file of path,label."""

    folder: pathlib.Path
    labels: pathlib.Path | None


class Listings(NamedTuple):
    """Of the training set, and of the evaluation set where that is one of its own."""

    train: Listing
    evaluation: Listing | None


class Opened(NamedTuple):
    """Training set and evaluation set, None where that is a share of the first, with what they are listed as."""

    train: ImageSet
    evaluation: ImageSet | None
    listings: Listings

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.listings.train.class_names


def open_images(data: DataConfig) -> Opened:
    """Training and evaluation images of a config.

    Raises:
      DatasetError: see `dataset.open_task`.
    """
    train, train_listing = open_split_of(data, data.train_split, class_names=None)
    if not data.eval_split:
        return Opened(train, None, Listings(train_listing, None))
    evaluation, eval_listing = open_split_of(data, data.eval_split, class_names=train_listing.class_names)
    return Opened(train, evaluation, Listings(train_listing, eval_listing))


def open_split_of(data: DataConfig, split: str, *, class_names: Sequence[str] | None) -> tuple[ImageSet, Listing]:
    """Images and listing of one split; `class_names` are those of training, None for training.

    Raises:
      DatasetError: see `dataset.open_task`.
    """
    if data.dataset == "own_folder":
        return _open_own_folder(data, split, class_names=class_names)
    from semivit_jax.data.sources import digits, tfds_source  # load tensorflow_datasets, which folders do without

    if data.dataset == "digits":
        data_dir = pathlib.Path(expanded(data.data_dir)) if data.data_dir else _place_of_digits(cache_dir() / "tfds")
        digits.prepare(data_dir)
    else:
        data_dir = files.path(data.data_dir or cache_dir() / "tfds")
    source = tfds_source.open_split(data.dataset, split, data_dir=data_dir, cache_dir=cache_dir())
    if class_names is not None and source.listing.class_names != tuple(class_names):
        raise DatasetError(f"the splits {data.train_split!r} and {split!r} of {data.dataset!r} have different classes")
    return ImageSet(source.records, source.listing.names, source.listing.labels), source.listing


@functools.cache  # made and said once
def _place_of_digits(folder: pathlib.Path) -> pathlib.Path:
    """Where the digits are, or can be made: they are small, so a cache that cannot be written to stops nobody."""
    why = "" if (folder / "digits").is_dir() else why_no_folder(folder)
    if not why:
        return folder
    instead = pathlib.Path(tempfile.mkdtemp(prefix="digits_"))
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    _log.warning("the digits are made in %s for this start alone, since %s; set XDG_CACHE_HOME", instead, why)
    return instead


def _open_own_folder(data: DataConfig, split: str, *, class_names: Sequence[str] | None) -> tuple[ImageSet, Listing]:
    """`split` is a sub-folder of the root, '' the root itself; evaluation folders have class sub-folders."""
    if not data.root:
        raise DatasetError("config.data.root is empty; give the folder of images")
    top = pathlib.Path(expanded(data.root))
    root = top / split
    if not top.is_dir() and not top.is_absolute():
        raise DatasetError(
            f"config.data.root {data.root!r} is no folder in {os.getcwd()}, where relative paths begin; go to the "
            "folder that it is relative to, or give it whole"
        )
    if top.is_dir() and not root.is_dir():
        raise NoSplitError(
            f"config.data.root {str(top)!r} has no split {split!r}, which would be a sub-folder with one "
            f"sub-folder per class; there are: {', '.join(_split_folders(top)) or 'none'}"
        )
    for_training = class_names is None
    opened = folder.open_folder(
        root,
        labels_csv=pathlib.Path(expanded(data.labels)) if data.labels and for_training else None,
        class_names=class_names,
        keep_none=data.keep_none,
        cache_dir=cache_dir(),
    )
    return ImageSet(opened.records, opened.listing.names, opened.listing.labels), opened.listing


def open_photos(photos: Photos) -> tuple[ImageSet, tuple[str, ...]]:
    """All photos of a folder, with the classes that their labels name.

    Raises:
      DatasetError: see `dataset.open_task`.
    """
    opened = folder.open_folder(
        photos.folder, labels_csv=photos.labels, class_names=None, keep_none=False, cache_dir=cache_dir()
    )
    listing = opened.listing
    return ImageSet(opened.records, listing.names, listing.labels), listing.class_names


def _split_folders(root: pathlib.Path) -> list[str]:
    """Sub-folders that could be splits, for a message: those with sub-folders."""
    inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path.name for path in inside if any(below.is_dir() for below in path.iterdir())][:_MOST_FOLDERS]
