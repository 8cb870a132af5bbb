"""List the images of ImageNet (ILSVRC 2012) in its two tars, read in place.

The tars are scanned once for where each image lies; nothing is unpacked. Synsets and the labels of the validation
images come from files that tensorflow-datasets installs.
"""

import dataclasses
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from semivit_jax import console
from semivit_jax.data.prepare.shards import RawSet
from semivit_jax.data.sources import kept
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.listing import NameTable
from semivit_jax.words import counted

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
NUM_TRAIN, NUM_VALIDATION = 1_281_167, 50_000  # Russakovsky et al. 2015, table 2
_SYNSETS, _VALIDATION_LABELS = "datasets/imagenet2012/labels.txt", "datasets/imagenet2012/validation_labels.txt"
_INDEX = {"block": "uint8", "ends": "int64", "offsets": "int64", "sizes": "int64", "labels": "int32"}
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


@dataclasses.dataclass(frozen=True)
class TarRecords:
    """Files inside a tar, by their place in it."""

    path: Path
    offsets: np.ndarray  # int64 [n], first byte
    sizes: np.ndarray  # int64 [n], bytes

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int, /) -> bytes:
        size = int(self.sizes[index])
        with open(self.path, "rb") as file:
            file.seek(int(self.offsets[index]))
            content = file.read(size)
        if len(content) != size:
            raise DatasetError(f"{str(self.path)!r} ends inside an image; it has changed since it was scanned")
        return content


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    label: int
    offset: int
    size: int


def is_imagenet(folder: Path) -> bool:
    """Whether the folder holds either of the two tars."""
    return (folder / TRAIN_TAR).exists() or (folder / VALIDATION_TAR).exists()


def open_imagenet(folder: Path, *, keep: Path, allow_partial: bool) -> RawSet:
    """Lists the images of both tars.

    Args:
      folder: of the tars, under their published names.
      keep: folder where the places of the images are kept for the next start.
      allow_partial: accept fewer images than were published.

    Raises:
      DatasetError: a tar is missing, damaged or holds something else, or the counts are not the published ones.
    """
    missing = [name for name in (TRAIN_TAR, VALIDATION_TAR) if not (folder / name).exists()]
    if missing:
        raise DatasetError(f"{missing[0]} is not in {str(folder)!r}; both tars are needed")
    synsets = _installed_lines(_SYNSETS)
    splits = {
        "train": _images(folder / TRAIN_TAR, "train", synsets, keep),
        "validation": _images(folder / VALIDATION_TAR, "validation", synsets, keep),
    }
    for split, expected in (("train", NUM_TRAIN), ("validation", NUM_VALIDATION)):
        count = len(splits[split])
        if count != expected and not (allow_partial and 0 < count < expected):
            raise DatasetError(
                f"the tar of {split} images holds {counted(count, 'image')}; ImageNet has {expected:,}. Is "
                "the download complete? (--allow_partial accepts fewer)"
            )
    state = "\n".join(_state(folder / name) for name in (TRAIN_TAR, VALIDATION_TAR))
    return RawSet("ImageNet tars", splits, tuple(synsets), state)


def _images(path: Path, split: str, synsets: list[str], keep: Path) -> ImageSet:
    """The images of one tar, from the index of an earlier start when the tar is the same."""
    saved, fingerprint = keep / f"{split}_index.npz", f"{path.resolve()} {_state(path)}"
    found = kept.recall(saved, _INDEX, fingerprint=fingerprint)
    if found is not None:
        names = NameTable(found["block"], found["ends"])
        return ImageSet(TarRecords(path, found["offsets"], found["sizes"]), names, found["labels"])
    scan = _train_entries if split == "train" else _validation_entries
    try:
        with tarfile.open(path, "r:") as tar:
            names, offsets, sizes, labels = _columns(scan(tar, synsets))
    except tarfile.TarError as error:
        raise DatasetError(f"{str(path)!r} is damaged or not a tar: {error}") from error
    arrays = {"block": names.block, "ends": names.ends, "offsets": offsets, "sizes": sizes, "labels": labels}
    kept.keep(saved, arrays, fingerprint=fingerprint)
    return ImageSet(TarRecords(path, offsets, sizes), names, labels)


def _state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _columns(entries: Iterator[_Entry]) -> tuple[NameTable, np.ndarray, np.ndarray, np.ndarray]:
    names: list[str] = []
    places: list[tuple[int, int, int]] = []
    for entry in entries:
        names.append(entry.name)
        places.append((entry.offset, entry.size, entry.label))
    columns = np.array(places, np.int64).reshape(-1, 3)
    return NameTable.pack(names), columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.int32)


def _train_entries(tar: tarfile.TarFile, synsets: list[str]) -> Iterator[_Entry]:
    """One tar per class, called by its synset."""
    label_of = {synset: label for label, synset in enumerate(synsets)}
    title = f"scanning classes of {TRAIN_TAR}"
    with console.counting(title, total=len(synsets)) as count:
        for scanned, (name, member) in enumerate(_files(tar), start=1):
            synset = name.removesuffix(".tar")
            if synset not in label_of:
                raise DatasetError(f"{TRAIN_TAR} holds {member.name!r}, which is not a tar named by a synset")
            content = tar.extractfile(member)
            assert content is not None, member.name  # _files gives regular files only
            with content, tarfile.open(fileobj=content, mode="r:") as inner:
                for image, place in _files(inner):
                    yield _Entry(image, label_of[synset], member.offset_data + place.offset_data, place.size)
            count(scanned)


def _validation_entries(tar: tarfile.TarFile, synsets: list[str]) -> Iterator[_Entry]:
    """Image n has the label of line n; the tar itself knows no labels."""
    label_of = {synset: label for label, synset in enumerate(synsets)}
    labels = [label_of[synset] for synset in _installed_lines(_VALIDATION_LABELS)]
    for name, place in console.track(_files(tar), f"scanning images of {VALIDATION_TAR}", total=len(labels)):
        matched = _VALIDATION_NAME.fullmatch(name)
        if not matched or not 1 <= int(matched[1]) <= len(labels):
            raise DatasetError(
                f"{VALIDATION_TAR} holds {place.name!r}; expected ILSVRC2012_val_00000001.JPEG and so on"
            )
        yield _Entry(name, labels[int(matched[1]) - 1], place.offset_data, place.size)


def _files(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """(name without folders, member) of every regular file, in the tar's order."""
    for member in tar:
        if member.isfile():
            if not member.size:
                raise DatasetError(f"{member.name!r} in the tar is empty")
            yield member.name.rpartition("/")[2], member


def _installed_lines(path: str) -> list[str]:
    return tfds.core.tfds_path(path).read_text().split()
