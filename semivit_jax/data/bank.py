"""Keep what classifiers say of every training image in one file, and find it again for the same images: a bank.

A row per image of the training set, in its order, with the most probable classes. What the images are is known by a
hash of their names, so a row never comes to stand beside another image.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from semivit_jax import files
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.listing import NameTable

TOP = 16  # classes kept of an image: of 1,000 some 99 % of the probability, in 80 MB for ImageNet
NOBODY = -1  # the class of an image that could not be read: its probabilities are 0


class Bank(NamedTuple):
    """Predictions for a training set.

    Attributes:
      classes: int32 [n, k], most probable first, numbers of `class_names`; NOBODY for an image without.
      probs: float32 [n, k], of these classes.
      class_names: of the data, in order.
      images: hash of the images' names, in order.
      facts: JSON-ready; how it was made.
    """

    classes: np.ndarray
    probs: np.ndarray
    class_names: tuple[str, ...]
    images: str
    facts: dict[str, Any]


def width(num_classes: int) -> int:
    """Classes that a bank keeps of an image."""
    return min(TOP, num_classes)


def hash_of(names: Sequence[str]) -> str:
    """Of the images' names in their order."""
    table = names if isinstance(names, NameTable) else NameTable.pack(names)
    digest = hashlib.sha256(np.ascontiguousarray(table.block).tobytes())
    digest.update(table.ends.astype("<i8").tobytes())
    return digest.hexdigest()


def save(path: files.AnyPath, bank: Bank) -> None:
    """Writes a bank; the file appears whole."""
    told = {"class_names": bank.class_names, "images": bank.images, "facts": bank.facts}
    with files.writing(path) as file:
        np.savez(
            file,
            classes=bank.classes.astype(np.int32),
            probs=bank.probs.astype(np.float16),
            told=np.frombuffer(json.dumps(told).encode(), np.uint8),
        )


def load(path: files.AnyPath, *, names: Sequence[str], class_names: Sequence[str]) -> Bank:
    """Reads a bank for a training set.

    Args:
      path: file of `semivit bank`.
      names: of the training images, in order.
      class_names: of the data, in order.

    Raises:
      DatasetError: no bank, or one of other images or classes.
    """
    if not files.path(path).is_file():
        raise DatasetError(f"there is no bank {path}; `semivit bank` writes one")
    try:
        with np.load(io.BytesIO(files.path(path).read_bytes())) as found:
            classes, probs = found["classes"], found["probs"].astype(np.float32)
            told = json.loads(found["told"].tobytes())
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is no bank: {error}; `semivit bank` writes one") from error
    bank = Bank(classes, probs, tuple(told["class_names"]), told["images"], told["facts"])
    if bank.images != hash_of(names):
        raise DatasetError(
            f"the bank {path} was made of other images ({len(classes):,}) than those of now ({len(names):,}); make it "
            "anew with `semivit bank` and this config"
        )
    if bank.class_names != tuple(class_names):
        raise DatasetError(f"the bank {path} was made for classes of other names; make it anew with `semivit bank`")
    return bank
