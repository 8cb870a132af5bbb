"""Name the places of a run, and say why one cannot be used."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath

from semivit_jax.files import address, store
from semivit_jax.files.bucket_path import BucketPath

Path = epath.Path
AnyPath = str | os.PathLike[str]


def path(text: AnyPath) -> Path:
    """The place of that name, with `~` expanded; of a bucket, which is asked whether it is there.

    Raises:
      OSError: it names no place where a run can be kept, or one that cannot be reached; says what to do.
    """
    if address.looks_like_one(os.fspath(text)):
        store.check(checked := address.checked(os.fspath(text)))
        return BucketPath(checked)
    return Path(expanded(text))


def expanded(text: AnyPath) -> str:
    """A path on a disk as a person writes it, with `~` expanded; behind a `=` the shell leaves it as it is.

    Raises:
      OSError: nobody knows that home; it would become a folder called `~`. Or it is an address.
    """
    if address.looks_like_one(os.fspath(text)):
        raise OSError(f"{text}: this is read and written on a disk; mount the bucket (gcsfuse), and give its folder")
    found = os.path.expanduser(os.fspath(text))
    if found.startswith("~"):
        home = found.partition("/")[0]
        raise OSError(f"{text}: there is no home folder {home}; for a folder called so write ./{found}")
    return found


def why_not_writable(target: AnyPath) -> str:
    """Why no file or folder of that name can be made, before anything is; "" where nothing speaks against it.

    What a bucket takes shows when something is written.
    """
    if address.is_bucket(target):
        return ""
    inside = os.path.abspath(target)
    while not os.path.lexists(inside):
        inside = os.path.dirname(inside)
    if inside != os.path.abspath(target) and not os.path.isdir(inside):
        return f"{inside} is no folder"
    return "" if os.access(inside, os.W_OK) else f"{inside} cannot be written to"


def absolute(found: Path) -> Path:
    """The same place without links and dots, as orbax wants it."""
    return found if address.is_bucket(found) else Path(os.path.realpath(found))


def on_this_machine(folder: Path) -> str | None:
    """The folder as other programs take it; None where it is in a bucket, of which they know nothing."""
    return None if address.is_bucket(folder) else os.fspath(folder)


def why_no_folder(target: AnyPath) -> str:
    """Why a folder of that name can neither be made nor be written into; "" where nothing speaks against it."""
    if os.path.lexists(target) and not os.path.isdir(target):
        return f"{os.path.abspath(target)} is no folder"
    return why_not_writable(target)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets one process of a machine at a time into the block, for moments.

    A file system without locks lets all of them in, and so does NFS, which locks no folders. In a bucket `replace_json`
    tells who came first.
    """
    if address.is_bucket(folder):
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
