"""Build a TFDS dataset from raw images: `semivit prepare`."""

import argparse
import re
import sys
from pathlib import Path

from semivit_jax.cli.paths import place
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.kept import cache_dir

BAD_USAGE, INTERRUPTED = 2, 130
_TAKEN = ("digits", "own_folder")  # values of config.data.dataset with a meaning of their own
_DESCRIPTION = """Builds a dataset that config.data.dataset=NAME and plain tensorflow-datasets read. SOURCE is one of:
a folder with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar; a folder with train/ and val/ or test/, each with one
sub-folder per class; a folder with one sub-folder per class; a folder of images beside --labels. A stopped build goes
on when the same command is given again."""


def prepare(argv: list[str]) -> int:
    """Parses the flags, builds the dataset, and returns the exit code (0 built, 1 error, 2 bad usage, 130 Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="semivit prepare", description=_DESCRIPTION)
    parser.add_argument("source", metavar="SOURCE", type=place, help="folder of the tars or the images")
    parser.add_argument("--name", type=_name, required=True, help="of the new dataset; letters a-z, digits and _")
    parser.add_argument(
        "--data_dir", type=_on_a_disk, help="existing folder of datasets; default: the user's cache folder"
    )
    parser.add_argument("--labels", type=place, help="CSV file of path,label for a folder without class sub-folders")
    parser.add_argument(
        "--allow_partial", action="store_true", help="accept ImageNet tars with fewer images than were published"
    )
    try:
        flags = parser.parse_args(argv)
    except SystemExit as left:  # argparse has told why
        return BAD_USAGE if left.code else 0
    from semivit_jax.data.prepare import build  # seconds that help and mistyped flags need not wait for

    try:
        build.prepare(
            flags.source,
            name=flags.name,
            data_dir=_data_dir(flags.data_dir),
            labels_csv=flags.labels,
            allow_partial=flags.allow_partial,
        )
    except (DatasetError, OSError) as error:
        print(f"semivit prepare: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("semivit prepare: stopped; finished shards are kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _data_dir(given: Path | None) -> Path:
    """A folder that is named must be there: on a disk that is not mounted, it would fill another one."""
    if given is None:
        return cache_dir() / "tfds"
    if not given.is_dir():
        raise DatasetError(f"--data_dir {str(given)!r} is not a folder; create it, or mount the disk it is on")
    return given


def _on_a_disk(text: str) -> Path:
    if "://" in text:
        upload = f"gcloud storage cp -r FOLDER/NAME {text}"
        raise argparse.ArgumentTypeError(f"{text}: build it in a FOLDER of a disk, then upload it: {upload}")
    return place(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text) or text in _TAKEN:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot name a dataset; legal are a letter a-z, then letters, digits and _, "
            f"except {' and '.join(_TAKEN)}"
        )
    return text
