"""Read and write the files of a run; the only module that knows where a run can be kept.

A place is a folder on a mounted file system. `Path` is etils' own class, no `pathlib.Path`, and three of its methods
are not for use: `stat` fails for a user who has no name, `rglob` always, and `glob` takes brackets in a folder's own
name for a pattern. `size`, `below` and `matching` stand for them.
"""

import contextlib
import fcntl
import fnmatch
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from etils import epath

from semivit_jax.hosts import stopping

Path = epath.Path
AnyPath = str | os.PathLike[str]

_CHUNK = 1 << 22  # bytes read at a time
_COMMITTED = "commit_success.txt"  # orbax puts it into a checkpoint that is written whole


def path(text: AnyPath) -> Path:
    """The place of that name, with `~` expanded.

    Raises:
      OSError: it names no place of a mounted file system; it would become a folder of that name.
    """
    if "://" in os.fspath(text):
        raise OSError(f"{text} is no folder; legal is one on a mounted file system")
    return Path(expanded(text))


def expanded(text: AnyPath) -> str:
    """A path as a person writes it, with `~` expanded; behind a `=` the shell leaves it as it is.

    Raises:
      OSError: nobody knows that home; it would become a folder called `~`.
    """
    found = os.path.expanduser(os.fspath(text))
    if found.startswith("~"):
        home = found.partition("/")[0]
        raise OSError(f"{text}: there is no home folder {home}; for a folder called so write ./{found}")
    return found


def why_not_writable(target: AnyPath) -> str:
    """Why no file or folder of that name can be made, before anything is; "" where nothing speaks against it."""
    inside = os.path.abspath(target)
    while not os.path.lexists(inside):
        inside = os.path.dirname(inside)
    if inside != os.path.abspath(target) and not os.path.isdir(inside):
        return f"{inside} is no folder"
    return "" if os.access(inside, os.W_OK) else f"{inside} cannot be written to"


def absolute(place: Path) -> Path:
    """The same place without links and dots, as orbax wants it."""
    return Path(os.path.realpath(place))


def read_json(file: Path) -> Any:
    """The value in a file of JSON."""
    return json.loads(file.read_bytes())


def write_json(file: AnyPath, value: object) -> None:
    """Writes a file of JSON, which appears whole."""
    content = json.dumps(value, indent=1).encode()
    with writing(file) as opened:
        opened.write(content)


@contextlib.contextmanager
def writing(file: AnyPath) -> Iterator[BinaryIO]:
    """Opens a file that appears whole when all is written; an error on the way leaves an old one as it was.

    It is written under a temporary name, flushed to the disk and renamed.
    """
    target = Path(file)
    with growing(target) as temporary, _named(target), open(temporary, "wb") as opened:
        yield opened


@contextlib.contextmanager
def growing(file: AnyPath) -> Iterator[str]:
    """Names the file to write in the place of `file`, which appears whole, as in `writing`."""
    target = Path(file)
    temporary = os.fspath(target.with_name(f".{target.name}.{os.getpid()}"))

    def remove() -> None:
        with contextlib.suppress(OSError):  # it may not be there; what went wrong first is what counts
            os.unlink(temporary)

    with stopping.undone_unless_whole(remove):
        yield temporary
        with _named(target), open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)


def why_no_folder(target: AnyPath) -> str:
    """Why a folder of that name can neither be made nor be written into; "" where nothing speaks against it."""
    if os.path.lexists(target) and not os.path.isdir(target):
        return f"{os.path.abspath(target)} is no folder"
    return why_not_writable(target)


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
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets one process of a machine at a time into the block, for moments.

    A file system without locks lets all of them in, and so does NFS, which locks no folders.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Lines:
    """A file of lines that grows."""

    def __init__(self, file: Path, keep: Callable[[Sequence[str]], Sequence[str]]):
        """Args: keep, says which lines of an earlier start stay; the last of them may be cut off."""
        self._path = file
        if file.exists():
            old = file.read_bytes().decode(errors="backslashreplace").splitlines()
            with writing(file) as opened:
                opened.write("".join(f"{line}\n" for line in keep(old)).encode())
        # Unbuffered: what a full disk refuses must not come up again, nameless, when the file is closed.
        self._file = open(file, "ab", buffering=0)  # noqa: SIM115 - lives as long as the lines are added

    def add(self, line: str) -> None:
        """Writes one line, which has no line break."""
        rest = f"{line}\n".encode()
        with _named(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Returns once what was added outlives the machine."""
        with _named(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def size(file: Path) -> int:
    """Bytes in a file."""
    return os.stat(file).st_size


def checksum(file: Path) -> int:
    """CRC-32 of a file: finds every single flipped bit and every burst of up to 32."""
    value = 0
    with open(file, "rb") as opened:
        while chunk := opened.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def below(folder: Path) -> list[Path]:
    """Every file below a folder, relative to it, sorted; links to folders are not followed."""
    found = (Path(inside) / name for inside, _, names in os.walk(folder) for name in names)
    return sorted(file.relative_to(folder) for file in found if file.is_file())


def matching(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has a name of that pattern, sorted; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(folder / name for name in os.listdir(folder) if fnmatch.fnmatchcase(name, pattern))


def committed(checkpoint: Path) -> bool:
    """Whether orbax has written a checkpoint whole."""
    return (checkpoint / _COMMITTED).exists()


def remove(folder: Path) -> None:
    """Removes a folder that nobody takes for a whole one."""
    shutil.rmtree(folder)


def discard(folder: Path, first: str) -> None:
    """Removes a folder, under another name and its file `first` before the rest: half a one never looks whole."""
    doomed = folder.with_name(f"{folder.name}.removed")
    os.rename(folder, doomed)
    (doomed / first).unlink(missing_ok=True)
    remove(doomed)


def set_aside(folder: Path, to: Path) -> None:
    """Moves a folder whose content is to be kept."""
    os.rename(folder, to)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Gives an error the name of its file, which that of a write lacks."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
