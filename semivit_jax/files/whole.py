"""Write files and folders that appear whole, and JSON among them."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from semivit_jax.files import address, store
from semivit_jax.files.contents import below
from semivit_jax.files.places import AnyPath, Path
from semivit_jax.hosts import stopping

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
    with growing(target) as temporary, named(target), open(temporary, "wb") as opened:
        yield opened


@contextlib.contextmanager
def growing(file: AnyPath) -> Iterator[str]:
    """Names the file to write in the place of `file`, which appears whole, as in `writing`."""
    target = Path(file)
    if address.is_bucket(target):
        with _passing(target.name) as temporary:
            yield temporary
            with open(temporary, "rb") as written:
                store.write(target, written)
        return
    temporary = os.fspath(target.with_name(f".{target.name}.{os.getpid()}"))

    def remove() -> None:
        with contextlib.suppress(OSError):  # it may not be there; what went wrong first is what counts
            os.unlink(temporary)

    with stopping.undone_unless_whole(remove):
        yield temporary
        with named(target), open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)


@contextlib.contextmanager
def on_a_disk(file: Path) -> Iterator[str]:
    """Names a file for what reads from a disk alone; one in a bucket is brought there for as long as the block runs."""
    if not address.is_bucket(file):
        yield os.fspath(file)
        return
    with _passing(file.name) as local:
        with open(local, "wb") as opened:
            store.read_into(file, opened)
        yield local


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[str]:
    """Names a folder on this machine to write files into; for a bucket they are brought there as the block ends."""
    if not address.is_bucket(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield os.fspath(folder)
        return
    with tempfile.TemporaryDirectory(prefix="semivit_") as local:
        yield local
        for name in below(Path(local)):
            with open(os.path.join(local, name), "rb") as written:
                store.write(folder / name, written)


@contextlib.contextmanager
def _passing(name: str) -> Iterator[str]:
    """A place for a file of that name on this machine, which goes with the block."""
    with tempfile.TemporaryDirectory(prefix="semivit_") as folder:
        yield os.path.join(folder, name)


@contextlib.contextmanager
def appearing(folder: AnyPath) -> Iterator[Path]:
    """Names the folder to write in the place of `folder`, which appears whole where it is new; an error leaves nothing.

    One that is there and empty is written into: it may be a link or a mount, in whose place no folder can be put.
    """
    target = Path(os.path.abspath(folder))
    is_new = not target.exists()
    written = target.with_name(f".{target.name}.{os.getpid()}") if is_new else target

    def remove() -> None:
        with contextlib.suppress(OSError):  # what went wrong first is what counts
            for path in [written] if is_new else list(target.iterdir()):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    with stopping.undone_unless_whole(remove):
        yield written
        if is_new:
            os.rename(written, target)


@contextlib.contextmanager
def named(file: Path) -> Iterator[None]:
    """Gives an error the name of its file, which that of a write lacks."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
