"""Open TFDS classification datasets in array_record from disk, without TensorFlow.

Images stay encoded (`SkipDecoding`): tensorflow-datasets decodes some PNG files to four channels, our decoder
never does.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from semivit_jax import console, files
from semivit_jax.data.sources import listing
from semivit_jax.data.sources.errors import DatasetError, NoSplitError
from semivit_jax.data.sources.listing import Listing
from semivit_jax.files import AnyPath

_log = logging.getLogger(__name__)
# One call of array_record costs a millisecond for each million records of the file, however few it asks for.
_READ_TOGETHER = 256  # records, some 30 MB of photographs
# Many an `id` is a mere number: cifar10 and cifar100 have the same ones.
_FILE_NAME_FEATURES = ("file_name", "filename", "image/filename")
_NAME_FEATURES = (*_FILE_NAME_FEATURES, "id")

# Builders of tensorflow-datasets 4.9.10 that read files with tf.io.gfile or give arrays, which tf.image encodes. These
# are the better known ones; most others do so too.
_NEED_TENSORFLOW = frozenset(
    (
        *("imagenet2012", "imagenet2012_subset", "imagenet_a", "imagenet_r", "imagenet_v2", "imagenette"),
        *("cifar10", "cifar100", "mnist", "fashion_mnist", "kmnist", "emnist", "svhn_cropped", "stl10"),
        *("oxford_flowers102", "oxford_iiit_pet", "stanford_dogs", "caltech_birds2010", "caltech_birds2011", "cars196"),
        *("caltech101", "dtd", "sun397", "cats_vs_dogs", "i_naturalist2018"),
        *("eurosat", "resisc45", "uc_merced", "deep_weeds", "patch_camelyon"),
    )
)
_UNUSABLE = {
    "i_naturalist2021": (
        "Its builder in tensorflow-datasets 4.9.10 cannot be created (the file of its labels is not packaged): unpack "
        "its archives and use `semivit prepare` on the class folders."
    ),
}
_REMARKS = {
    "cars196": "Its download addresses have been reported dead.",
    "cifar10": (
        "Or train from its images as files in class folders, ROOT/train and ROOT/test, as configs/cifar10.py tells: "
        "--config.data.dataset=own_folder --config.data.root=ROOT"
    ),
}


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """Encoded images of one split; opened lazily by array_record in the process that reads."""

    source: Sequence[Any]
    image_key: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> bytes:
        return self.source[index][self.image_key]


@dataclasses.dataclass(frozen=True)
class TfdsSplit:
    records: TfdsRecords
    listing: Listing


def open_split(name: str, split: str, *, data_dir: AnyPath, cache_dir: Path) -> TfdsSplit:
    """Opens one split (tfds notation, such as `train` or `train[:80%]`) of a prepared dataset.

    Labels and names are read once from all records, then kept beside the data, or in `cache_dir` when the
    data cannot be written, as long as names, sizes and times of its files and its class names are the same.

    Raises:
      DatasetError: if the dataset or split is not there or cannot be used.
    """
    builder = _find(name, data_dir)
    image_key, label_key = _keys(name, builder)
    try:
        source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    except ValueError as error:
        raise NoSplitError(
            f"dataset {name!r} in {data_dir} has no split {split!r}; it has: {', '.join(builder.info.splits)}"
        ) from error
    keep_in = listing.cache_file(
        files.Path(builder.data_dir), name=hashlib.sha256(split.encode()).hexdigest()[:8], cache_dir=cache_dir
    )
    fingerprint = _fingerprint(builder, split, label_key)
    found = listing.load(keep_in, fingerprint=fingerprint)
    if found is None:
        found = _read_listing(builder, split, source, label_key)
        listing.keep(keep_in, found, fingerprint=fingerprint)
    if _name_key(builder) not in _FILE_NAME_FEATURES:
        found = listing.with_made_up_names(found)
    return TfdsSplit(TfdsRecords(source, image_key), found)


def _find(name: str, data_dir: AnyPath) -> Any:
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise DatasetError(
            f"dataset {name!r} is not in {data_dir}. Set config.data.data_dir to where it is, or prepare it with "
            f"`semivit prepare` from image files. {_how_to_build(name, data_dir)}"
        ) from error
    except ValueError as error:  # tfds explains its notation on 20 lines
        raise DatasetError(
            f"config.data.dataset is {name!r}; legal are own_folder, digits and NAME, NAME/CONFIG or NAME:VERSION of a "
            "TFDS dataset, in letters, digits and _"
        ) from error
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise DatasetError(
            f"dataset {name!r} in {builder.data_dir} is stored as {builder.info.file_format}, not as "
            "array_record; build it again with file_format='array_record', or convert it where TensorFlow is "
            "installed with `tfds convert_format --out_file_format=array_record`"
        )
    return builder


def _how_to_build(name: str, data_dir: AnyPath) -> str:
    """How tensorflow-datasets makes a dataset, in sentences."""
    plain = _plain(name)
    if plain in _UNUSABLE:
        return _UNUSABLE[plain]
    build = f"tfds.builder({name!r}, data_dir={str(data_dir)!r}, file_format='array_record').download_and_prepare()"
    elsewhere = "another environment (pip install tensorflow tensorflow-datasets importlib_resources)"
    if plain in _NEED_TENSORFLOW:
        how = (
            f"Its builder in tensorflow-datasets 4.9.10 needs TensorFlow, this once: run {build} in {elsewhere}, and "
            "copy the folder here."
        )
    else:
        how = (
            f"In Python, {build} makes those that tensorflow-datasets knows; where it asks for tensorflow, run it once "
            f"in {elsewhere}, and copy the folder here."
        )
    return " ".join(filter(None, [how, _REMARKS.get(plain)]))


def _plain(name: str) -> str:
    """`imagenet2012` for `imagenet2012:5.1.0`, `imagenet2012_subset` for `imagenet2012_subset/1pct`."""
    return name.split("/")[0].split(":")[0]


def _keys(name: str, builder: Any) -> tuple[str, str]:
    features = dict(sorted(builder.info.features.items()))  # tfds reads them back in no fixed order
    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys or ()
    image = [key for key in images if key in supervised] or images
    label = [key for key in labels if key in supervised] or labels
    if len(image) != 1 or len(label) != 1:
        raise DatasetError(
            f"dataset {name!r} is not an image classification dataset: it must have one image and one class "
            f"label, and has images {images} and class labels {labels} among the features {list(features)}"
        )
    return image[0], label[0]


def _fingerprint(builder: Any, split: str, label_key: str) -> str:
    """Tells the split from one with other records, or with other names of its classes, which lie in a file apart."""
    names = [Path(path).name for info in builder.info.splits.values() for path in info.filepaths]
    marks = files.marks(files.Path(builder.data_dir))
    described = [f"{name} {marks[name]}" for name in names]
    read = [split, label_key, str(_name_key(builder)), *builder.info.features[label_key].names]
    return hashlib.sha256("\n".join([*read, *described]).encode(errors="surrogateescape")).hexdigest()


def _read_listing(builder: Any, split: str, source: Any, label_key: str) -> Listing:
    features = builder.info.features
    name_key = _name_key(builder)
    _log.info("reading names and labels of %d records of %s, once", len(source), builder.info.full_name)
    names, labels = [], np.empty(len(source), np.int32)
    starts = range(0, len(source), _READ_TOGETHER)
    for start in console.track(starts, f"reading labels, {_READ_TOGETHER} at a time", total=len(starts)):
        positions = range(start, min(start + _READ_TOGETHER, len(source)))
        for index, record in zip(positions, source.__getitems__(positions), strict=True):
            labels[index] = record[label_key]
            names.append(_text(record[name_key]) if name_key else f"{split}/{index}")
    return Listing(listing.NameTable.pack(names), labels, tuple(features[label_key].names))


def _name_key(builder: Any) -> str | None:
    """The feature with the names of the records; None where they must be numbered."""
    return next((key for key in _NAME_FEATURES if key in builder.info.features), None)


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
