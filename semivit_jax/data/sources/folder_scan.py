"""Find the image files of a folder once; later starts look only for changed directories.

A file counts as an image by its ending and its first bytes; the others are left out and reported. The result
is kept in the user's cache, never in the folder itself. It is used again as long as every directory has its
old modification time, which changes when a file in it appears, disappears or is renamed, and as long as all
that was left out still has the same faults: a file that was empty may have been filled since, which changes no
directory. An image whose content changes meanwhile is a bad record when training reads it.
"""

import dataclasses
import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.listing import NameTable
from semivit_jax.files import writing
from semivit_jax.words import counted

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
UNREAD = (".heic", ".heif", ".tif", ".tiff", ".avif")  # photos that no decoder here reads
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF")
_HEAD_BYTES = 12  # up to the word WEBP of a RIFF file
_CHUNK = 1000  # files per task of a checking thread
_THREADS = 16  # opening files waits for the disk or the network, not for the processor: more threads than cores
_TABLES = ("names", "directories", "problems", "left_out")  # of a scan, as they are kept
_FORMAT = 2  # of the kept scan; raised when its content changes

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a folder holds; all paths are relative to it, with `/`."""

    names: Sequence[str]  # usable images, sorted
    directories: Sequence[str]  # all directories, the folder itself as ''
    problems: Sequence[str]  # one line per file, folder or link that was left out, and why
    left_out: Sequence[str]  # the files among them, and the folders with a `/` at their end; no links to folders
    unread: int  # files with the endings UNREAD
    ignored: int  # files with other endings


def scan(root: Path, *, cache_dir: Path) -> Scan:
    """The images below `root`, from the cache if nothing has changed.

    Raises:
      DatasetError: if `root` is not a folder or holds no image.
    """
    if not root.is_dir():
        raise DatasetError(f"{str(root)!r} is not a folder; config.data.root must be a folder of images")
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    saved = cache_dir / f"folder_{place}.npz"
    found = _load(saved, root)
    if found is None:
        _log.info("listing the images in %s (kept for the next start)", root)
        found, times = _scan(root)
        _save(saved, found, times)
    if not len(found.names):
        endings = f"no images in {str(root)!r} (endings {', '.join(ENDINGS)})"
        raise DatasetError("\n".join([endings, *unread_photos(root, found), *found.problems[:10]]))
    return found


def unread_photos(root: Path, found: Scan) -> list[str]:
    """What to do about photos whose format is not read, in a line or none."""
    if not found.unread:
        return []
    these = counted(found.unread, "file")
    return [f"{these} in {str(root)!r} not read ({', '.join(UNREAD)}): convert to JPEG or PNG, or they take no part"]


def _scan(root: Path) -> tuple[Scan, list[int]]:
    candidates: list[str] = []
    directories: list[tuple[str, int]] = []
    problems: list[str] = []
    left_out: list[str] = []
    unread = ignored = 0
    for directory, modified, files in _walk(root, problems, left_out):
        directories.append((directory, modified))
        images = [name for name in files if name.lower().endswith(ENDINGS)]
        photos = sum(name.lower().endswith(UNREAD) for name in files)
        unread, ignored = unread + photos, ignored + len(files) - len(images) - photos
        candidates += [f"{directory}/{name}" if directory else name for name in images]
    candidates.sort(key=os.fsencode)
    console = Console(stderr=True)
    chunks = _chunks(candidates)
    names: list[str] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        checks = threads.map(lambda chunk: [_complaint(root, name) for name in chunk], chunks)
        progress = track(
            zip(chunks, checks, strict=True),
            f"checking {counted(len(candidates), 'file')}",
            total=len(chunks),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        for chunk, complaints in progress:
            names += [name for name, complaint in zip(chunk, complaints, strict=True) if not complaint]
            left_out += [name for name, complaint in zip(chunk, complaints, strict=True) if complaint]
            problems += [complaint for complaint in complaints if complaint]
    found = Scan(
        names=NameTable.pack(names),
        directories=NameTable.pack(directory for directory, _ in directories),
        problems=NameTable.pack(problems),
        left_out=NameTable.pack(left_out),
        unread=unread,
        ignored=ignored,
    )
    return found, [modified for _, modified in directories]


def _walk(root: Path, problems: list[str], left_out: list[str]) -> Iterator[tuple[str, int, list[str]]]:
    """(directory, its modification time, names of its files) of the whole tree, every folder once.

    Links are followed after all real folders, so that an image has the name of the place where it lies wherever it
    lies below the root. Hidden files and directories are passed over: tools keep thumbnails and locks there.
    """
    visited: dict[tuple[int, int], str] = {}
    waiting, links = [""], []  # the next one last
    while waiting or links:
        if not waiting:
            waiting, links = links[::-1], []
        directory = waiting.pop()
        try:
            status = (root / directory).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in visited:
                problems.append(_met_again(directory, visited[identity]))
                continue
            entries = _list(root / directory)
        except OSError as error:
            problems.append(_not_listed(directory, error))
            left_out.append(f"{directory}/")
            continue
        visited[identity] = directory
        inside = [entry for entry in entries if _is_directory(entry)]
        yield directory, status.st_mtime_ns, [entry.name for entry in entries if not _is_directory(entry)]
        prefix = f"{directory}/" if directory else ""
        waiting += [prefix + entry.name for entry in reversed(inside) if not entry.is_symlink()]
        links += [prefix + entry.name for entry in inside if entry.is_symlink()]


def _list(path: Path) -> list[os.DirEntry[str]]:
    """What a directory shows, sorted."""
    with os.scandir(path) as listed:
        shown = [entry for entry in listed if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: os.fsencode(entry.name))


def _not_listed(directory: str, error: OSError) -> str:
    return f"{directory!r} cannot be listed: {error.strerror}"


def _met_again(directory: str, first: str) -> str:
    if not first or directory.startswith(f"{first}/"):
        return f"{directory!r} is a link to a folder that contains it; not followed"
    return f"{directory!r} is the same folder as {first!r}; its images are listed there"


def _chunks(names: list[str]) -> list[list[str]]:
    return [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file, it cannot be read and is reported with the others
        return False


def _complaint(root: Path, name: str) -> str:
    """Why a file is not usable as an image, from its first bytes; '' if it looks like one."""
    path = os.path.join(root, name)  # `root / name` takes as long as opening the file
    try:
        # Opening a pipe waits for somebody who writes to it, for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return f"{name!r} is not a regular file"
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"{name!r} cannot be read: {error.strerror}"
    if not head:
        return f"{name!r} is empty"
    if not head.startswith(_STARTS) or (head.startswith(b"RIFF") and not head.endswith(b"WEBP")):
        return f"{name!r} is not an image of a known format; it begins with {head!r}"
    return ""


def _fault(root: Path, left_out: str) -> str:
    """What is wrong now with a file, or a folder with a `/` at its end, that was left out; '' if nothing is."""
    if not left_out.endswith("/"):
        return _complaint(root, left_out)
    directory = left_out[:-1]
    try:
        _list(root / directory)
    except OSError as error:
        return _not_listed(directory, error)
    return ""


def _save(path: Path, found: Scan, times: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for key in _TABLES:
        table = getattr(found, key)
        assert isinstance(table, NameTable)
        arrays |= {f"{key}_block": table.block, f"{key}_ends": table.ends}
    with writing(path) as file:
        counts = np.array([found.unread, found.ignored])
        np.savez(file, **arrays, times=np.array(times, np.int64), counts=counts, format=np.array(_FORMAT))


def _load(path: Path, root: Path) -> Scan | None:
    """The saved scan if every directory has the modification time, and all that was left out the fault, of then."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        if "format" not in saved or saved["format"] != _FORMAT:  # an earlier version's
            return None
        tables = {key: NameTable(saved[f"{key}_block"], saved[f"{key}_ends"]) for key in _TABLES}
        times, (unread, ignored) = saved["times"], saved["counts"].tolist()
    for directory, modified in zip(tables["directories"], times, strict=True):
        try:
            if (root / directory).stat().st_mtime_ns != modified:
                return None
        except OSError:
            return None
    known, chunks = frozenset(tables["problems"]), _chunks(list(tables["left_out"]))
    with ThreadPoolExecutor(_THREADS) as threads:
        if not all(threads.map(lambda chunk: known.issuperset(_fault(root, name) for name in chunk), chunks)):
            return None
    return Scan(**tables, unread=unread, ignored=ignored)
