"""`semivit prepare`: raw images to a TFDS dataset in array_record, without TensorFlow.

The same command again goes on after a kill; the dataset appears under its name only when it is complete.
"""

import argparse
import re
import sys
from pathlib import Path

from semivit_jax import console
from semivit_jax.data.dataset import cache_dir
from semivit_jax.data.prepare import folder, imagenet, shards
from semivit_jax.data.prepare.shards import RawSet
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.words import counted

BAD_USAGE, INTERRUPTED = 2, 130
_TAKEN = ("digits", "own_folder")  # values of config.data.dataset with a meaning of their own
_DESCRIPTION = """Builds a dataset that config.data.dataset=NAME and plain tensorflow-datasets read. SOURCE is one of:
a folder with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar; a folder with train/ and val/ or test/, each with one
sub-folder per class; a folder with one sub-folder per class; a folder of images beside --labels. A stopped build goes
on when the same command is given again."""


def command(argv: list[str]) -> int:
    """Parses the flags, builds the dataset, and returns the exit code (0 built, 1 error, 2 bad usage, 130 Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="semivit prepare", description=_DESCRIPTION)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of the tars or the images")
    parser.add_argument("--name", type=_name, required=True, help="of the new dataset; letters a-z, digits and _")
    parser.add_argument("--data_dir", type=Path, help="existing folder of datasets; default: the user's cache folder")
    parser.add_argument("--labels", type=Path, help="CSV file of path,label for a folder without class sub-folders")
    parser.add_argument(
        "--allow_partial", action="store_true", help="accept ImageNet tars with fewer images than were published"
    )
    try:
        flags = parser.parse_args(argv)
    except SystemExit as left:  # argparse has told why
        return BAD_USAGE if left.code else 0
    try:
        prepare(
            flags.source.expanduser(),
            name=flags.name,
            data_dir=_data_dir(flags.data_dir),
            labels_csv=flags.labels.expanduser() if flags.labels else None,
            allow_partial=flags.allow_partial,
        )
    except (DatasetError, OSError) as error:
        print(f"semivit prepare: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("semivit prepare: stopped; finished shards are kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def prepare(source: Path, *, name: str, data_dir: Path, labels_csv: Path | None, allow_partial: bool) -> Path:
    """Builds `data_dir/name/1.0.0` from raw images and returns that folder.

    Args:
      source: folder of ImageNet's tars, of class folders, or of images.
      name: of the dataset.
      data_dir: existing folder.
      labels_csv: labels of the images of a folder; None reads class sub-folders.
      allow_partial: accept ImageNet tars with fewer images than were published.

    Raises:
      DatasetError: the dataset is there already, the source cannot be used, or counts do not agree.
    """
    final = data_dir / name / shards.VERSION
    with shards.only_builder(final) as building:
        found = _open(source, labels_csv=labels_csv, allow_partial=allow_partial, keep=building)
        sizes = ", ".join(_size(split, images) for split, images in found.splits.items())
        console.say(f"{found.kind}: {sizes}; {counted(len(found.class_names), 'class', 'classes')}")
        shards.build(found, final=final, building=building)
    console.say(f"wrote {final}; use it with {_config_flags(name, data_dir, found)}")
    return final


def _open(source: Path, *, labels_csv: Path | None, allow_partial: bool, keep: Path) -> RawSet:
    if not source.is_dir():
        raise DatasetError(f"{str(source)!r} is not a folder; SOURCE is the folder of the tars or the images")
    if imagenet.is_imagenet(source):
        if labels_csv:
            raise DatasetError("--labels is for a folder of images; ImageNet's tars bring their labels")
        return imagenet.open_imagenet(source, keep=keep, allow_partial=allow_partial)
    return folder.open_images(source, labels_csv=labels_csv, cache_dir=cache_dir())


def _size(split: str, images: ImageSet) -> str:
    labeled = int((images.labels >= 0).sum())
    total = counted(len(images), f"{split} image")
    return total if labeled == len(images) else f"{total} ({labeled:,} labeled, {len(images) - labeled:,} unlabeled)"


def _config_flags(name: str, data_dir: Path, source: RawSet) -> str:
    evaluation = next((split for split in ("validation", "test") if split in source.splits), "")
    values = {"dataset": name, "data_dir": data_dir, "train_split": "train", "eval_split": evaluation}
    # Of the training images; without a split of its own evaluation needs some, with one they would serve nothing.
    values["validation_share"] = 0.0 if evaluation else "SHARE"
    return " ".join(f"--config.data.{key}={value}" for key, value in values.items())


def _data_dir(given: Path | None) -> Path:
    """A folder that is named must be there: on a disk that is not mounted, it would fill another one."""
    if given is None:
        return cache_dir() / "tfds"
    if not given.expanduser().is_dir():
        raise DatasetError(f"--data_dir {str(given)!r} is not a folder; create it, or mount the disk it is on")
    return given.expanduser()


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text) or text in _TAKEN:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot name a dataset; legal are a letter a-z, then letters, digits and _, "
            f"except {' and '.join(_TAKEN)}"
        )
    return text
