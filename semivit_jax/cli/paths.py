"""Read the paths on a command line, by one rule for every flag: what a person named is taken, or refused at once.

Photos and what comes with them are on a disk; what runs, imports and reports are written to may be in a bucket.
"""

import argparse
import pathlib
from collections.abc import Callable

from semivit_jax import files


def place(text: str) -> pathlib.Path:
    """A path on a disk as a person writes it, for argparse."""
    try:
        return pathlib.Path(files.expanded(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def output_file(text: str) -> files.Path:
    """A file to write, tried before any work: its folder may be absent, but nothing may speak against making it."""
    return _output(text, "is a folder; legal is a file, new or to be replaced", wrong=lambda found: found.is_dir())


def output_folder(text: str) -> files.Path:
    """A folder to write, tried before any work."""
    return _output(text, "is a file; legal is a folder", wrong=lambda found: found.is_file())


def output_folder_on_a_disk(text: str) -> files.Path:
    """The same for what other programs write, which know no buckets."""
    place(text)
    return output_folder(text)


def _output(text: str, complaint: str, *, wrong: Callable[[files.Path], bool]) -> files.Path:
    try:
        found = files.path(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if wrong(found):
        raise argparse.ArgumentTypeError(f"{text} {complaint}")
    if why := files.why_not_writable(found):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {why}")
    return found
