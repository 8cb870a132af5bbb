"""Read the paths on a command line, by one rule for every flag: what a person named is taken, or refused at once."""

import argparse
import pathlib
from collections.abc import Callable

from semivit_jax import files


def place(text: str) -> pathlib.Path:
    """A path as a person writes it, for argparse; the one rule for every flag that takes one."""
    try:
        return pathlib.Path(files.expanded(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def output_file(text: str) -> pathlib.Path:
    """A file to write, tried before any work: its folder may be absent, but nothing may speak against making it."""
    return _output(text, "is a folder; legal is a file, new or to be replaced", wrong=pathlib.Path.is_dir)


def output_folder(text: str) -> pathlib.Path:
    """A folder to write, tried before any work."""
    return _output(text, "is a file; legal is a folder", wrong=pathlib.Path.is_file)


def _output(text: str, complaint: str, *, wrong: Callable[[pathlib.Path], bool]) -> pathlib.Path:
    found = place(text)
    if wrong(found):
        raise argparse.ArgumentTypeError(f"{text} {complaint}")
    if why := files.why_not_writable(found):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {why}")
    return found
