"""Write a TFDS dataset shard by shard, so that a stopped build goes on where it was.

While it grows, the dataset lives in `.building-VERSION/` beside its final place:

    lock                  held by the process that builds
    source.json           hash of what is built; another source is refused
    VERSION/              finished shards, and at last TFDS's metadata; renamed when complete
    shard                 the one being written; left by a kill, it is overwritten

Which images a shard holds depends on the names alone, so every start makes the same shards.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue] - compiled

from semivit_jax import console
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.listing import Listing
from semivit_jax.files import write_json
from semivit_jax.words import counted

VERSION = "1.0.0"
RECORDS_PER_SHARD = 4096  # some 450 MB of ImageNet; single reads from files of a million records are slow


@dataclasses.dataclass(frozen=True)
class RawSet:
    """What a dataset is built from: raw images with names and labels, by split."""

    kind: str  # what SOURCE was taken for, for people
    splits: Mapping[str, ImageSet]  # `train` first
    class_names: tuple[str, ...]
    fingerprint: str  # of names, sizes and times of the files that the images are read from


@contextlib.contextmanager
def only_builder(final: Path) -> Iterator[Path]:
    """Gives the folder in which the dataset grows, to one process at a time; removes it when the dataset is complete.

    Raises:
      DatasetError: the dataset exists, or another process is building it.
    """
    _refuse_existing(final)
    building = final.parent / f".building-{final.name}"
    building.mkdir(parents=True, exist_ok=True)
    with open(building / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"another process is building {final}; its files are in {building}") from error
        _refuse_existing(final)  # the process that held the lock may just have finished
        yield building
        shutil.rmtree(building)


def build(source: RawSet, *, final: Path, building: Path) -> None:
    """Writes the shards that are not there yet, checks all counts, adds the metadata, and renames to `final`.

    Raises:
      DatasetError: the unfinished build there is one of other images, two images have one name, or the images
        written are not as many as those found.
    """
    _check_same_source(source, building)
    growing = building / final.name
    growing.mkdir(exist_ok=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=list(source.class_names)),
            "file_name": tfds.features.Text(),
        }
    )
    infos = [
        _write_split(split, images, features, name=final.parent.name, folder=growing, half=building / "shard")
        for split, images in source.splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=growing,
        features=features,
        split_infos=infos,
        version=final.name,
        supervised_keys=("image", "label"),
        description=f"Built by semivit prepare from {source.kind}.",
        check_data=False,  # tensorflow-datasets would read an example with TensorFlow
    )
    growing.rename(final)


def shard_positions(names: Sequence[str]) -> list[np.ndarray]:
    """Positions of the images of every shard.

    Images are dealt by a hash of their names, so that a slice such as `train[:10%]` holds all classes; within a
    shard they keep the order of the source, which spares a disk.

    Raises:
      DatasetError: if a name stands twice.
    """
    digests = (hashlib.sha256(os.fsencode(name)).digest()[:8] for name in names)
    keys = np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64, count=len(names))
    order = np.argsort(keys, kind="stable")
    doubled = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(doubled):
        raise DatasetError(
            f"{counted(len(doubled), 'image')} with the name of another one, {names[int(order[doubled[0]])]!r} first"
        )
    parts = np.array_split(order, -(-len(names) // RECORDS_PER_SHARD))
    return [np.sort(part) for part in parts]


def _write_split(
    split: str, images: ImageSet, features: tfds.features.FeaturesDict, *, name: str, folder: Path, half: Path
) -> tfds.core.SplitInfo:
    """Writes the missing shards of one split and counts what is there; `half` is the file of the shard in work."""
    template = tfds.core.ShardedFileTemplate(
        dataset_name=name, split=split, filetype_suffix="array_record", data_dir=tfds.core.Path(folder)
    )
    shards = shard_positions(images.names)
    paths = [Path(template.sharded_filepath(shard_index=i, num_shards=len(shards))) for i in range(len(shards))]
    finished = [_num_records(path) == len(positions) for path, positions in zip(paths, shards, strict=True)]
    if any(finished):
        console.say(f"{split}: {sum(finished)} of {counted(len(shards), 'shard')} done before")
    missing = [(path, positions) for path, positions, there in zip(paths, shards, finished, strict=True) if not there]
    done = len(images) - sum(len(positions) for _, positions in missing)
    with console.counting(f"writing {split}", total=len(images), before=done) as count:
        for path, positions in missing:
            with contextlib.closing(_shard_writer(half)) as writer:
                for number, example in enumerate(_examples(images, positions), start=done + 1):
                    writer.write(features.serialize_example(features.encode_example(example)))
                    count(number)
            _to_disk(half)
            half.replace(path)
            done += len(positions)
    lengths = [_num_records(path) for path in paths]
    if sum(lengths) != len(images):
        raise DatasetError(
            f"{counted(len(images), 'image')} found for the split {split}, but {sum(lengths):,} are in {folder}; "
            "another program has changed it, remove it"
        )
    size = sum(path.stat().st_size for path in paths)
    return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)


def _shard_writer(path: Path) -> array_record_module.ArrayRecordWriter:
    # One record per group, as tensorflow-datasets writes it: training reads single records.
    return array_record_module.ArrayRecordWriter(str(path), "group_size:1")


def _examples(images: ImageSet, positions: np.ndarray) -> Iterator[dict[str, Any]]:
    for position in map(int, positions):
        yield {
            "image": images.records[position],
            "label": int(images.labels[position]),
            "file_name": os.fsencode(images.names[position]),
        }


def _to_disk(path: Path) -> None:
    """Before the rename; otherwise a power cut leaves a finished name with half its bytes."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _num_records(path: Path) -> int:
    """Records of a shard, by the index at its end; 0 where the file or its index is missing."""
    if not path.exists():
        return 0
    reader = array_record_module.ArrayRecordReader(str(path))
    if not reader.ok():
        return 0
    count = reader.num_records()
    reader.close()
    return count


def _check_same_source(source: RawSet, building: Path) -> None:
    digest = hashlib.sha256(source.fingerprint.encode())
    for split, images in source.splits.items():
        listed = Listing(images.names, images.labels, source.class_names).content_hash()
        digest.update(f"{split} {listed} {RECORDS_PER_SHARD}\n".encode())
    wanted, path = {"source": digest.hexdigest()}, building / "source.json"
    if not path.exists():
        write_json(path, wanted)
    elif json.loads(path.read_text()) != wanted:
        raise DatasetError(
            f"{building} holds an unfinished build of other images, of others in the same files, or of other labels; "
            "remove it to begin anew"
        )


def _refuse_existing(final: Path) -> None:
    if final.exists():
        raise DatasetError(f"{final} exists already; remove it, or give another --name")
