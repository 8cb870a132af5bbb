"""Write files and folders that appear whole, and JSON among them."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from semivit_jax.files import address, store
from semivit_jax.files.places import AnyPath, Path

Overtaken = store.Overtaken
NOTHING = 0  # what `replace_json` writes over where there is no file


def read_json(file: Path) -> Any:
    """The value in a file of JSON."""
    return json.loads(file.read_bytes())


def write_json(file: AnyPath, value: object) -> None:
    """Writes a file of JSON, which appears whole."""
    content = json.dumps(value, indent=1).encode()
    with writing(file) as opened:
        opened.write(content)


def read_to_replace(file: Path) -> tuple[Any, int]:
    """The value in a file of JSON, and what `replace_json` must be told to replace no other."""
    if not address.is_bucket(file):
        return read_json(file), NOTHING
    content, generation = store.read_with_generation(file)
    return json.loads(content), generation


def replace_json(file: Path, value: object, *, over: int) -> int:
    """Writes a file of JSON over the one that was read; returns what replaces it next.

    A disk does not look (`one_at_a_time` stands for it there).

    Raises:
      Overtaken: somebody has written it since.
    """
    if not address.is_bucket(file):
        write_json(file, value)
        return NOTHING
    return store.write(file, json.dumps(value, indent=1).encode(), over=over)


@contextlib.contextmanager
def writing(file: AnyPath) -> Iterator[BinaryIO]:
    """Opens a file that appears whole when all is written; an error on the way leaves an old one as it was.

    It is written under a temporary name, flushed to the disk and renamed; for a bucket, kept here until it is whole.
    """
    target = Path(file)
    if address.is_bucket(target):
        with tempfile.TemporaryFile() as opened:
            yield cast(BinaryIO, opened)
            store.write(target, cast(BinaryIO, opened))
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with named(target), open(temporary, "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):  # it may not be there; what went wrong first is what counts
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def on_a_disk(file: Path) -> Iterator[str]:
    """Names a file for what reads from a disk alone; one in a bucket is brought there for as long as the block runs."""
    if not address.is_bucket(file):
        yield os.fspath(file)
        return
    with tempfile.TemporaryDirectory(prefix="semivit_") as folder:
        local = os.path.join(folder, file.name)
        with open(local, "wb") as opened:
            store.read_into(file, opened)
        yield local


@contextlib.contextmanager
def to_a_disk(file: Path) -> Iterator[str]:
    """Names where to write what is written to a disk alone; for a bucket, it is brought there after the block."""
    if not address.is_bucket(file):
        yield os.fspath(file)
        return
    with tempfile.TemporaryDirectory(prefix="semivit_") as folder:
        local = os.path.join(folder, file.name)
        yield local
        with open(local, "rb") as opened:
            store.write(file, opened)


@contextlib.contextmanager
def appearing(folder: AnyPath) -> Iterator[Path]:
    """Names the folder to write in the place of `folder`, which appears whole where it is new; an error leaves nothing.

    One that is there and empty is written into: it may be a link or a mount, in whose place no folder can be put.
    """
    target = Path(os.path.abspath(folder))
    is_new = not target.exists()
    growing = target.with_name(f".{target.name}.{os.getpid()}") if is_new else target
    try:
        yield growing
        if is_new:
            os.rename(growing, target)
    except BaseException:
        # What went wrong first is what counts.
        for path in [growing] if is_new else list(target.iterdir()):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def named(file: Path) -> Iterator[None]:
    """Gives an error the name of its file, which that of a write lacks."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
