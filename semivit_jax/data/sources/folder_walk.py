"""Look through a folder: every file that is called an image, with its size and the time it was last changed."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from semivit_jax.data.images import formats
from semivit_jax.data.sources.listing import NameTable
from semivit_jax.data.sources.overlap import overlapped

# Folders that programs put beside photos, in small letters: copies of them, and what was thrown away.
OF_PROGRAMS = frozenset(
    (
        "__macosx",
        "@eadir",
        "thumbs",
        "thumbnails",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    )
)
_CHUNK = 1000  # files that are asked for together
_Name = TypeVar("_Name", str, bytes)
_GONE = (-1, -1)  # size and time of a file that does not tell them


@dataclasses.dataclass(frozen=True)
class Tree:
    """What lies below a folder; all paths are relative to it, with `/`."""

    files: NameTable  # with an ending of a photo that is read, sorted
    sizes: np.ndarray  # int64 [files], bytes, -1 where not known
    times: np.ndarray  # int64 [files], when the content was last changed, nanoseconds, -1 where not known
    directories: NameTable  # all of them, the folder itself as ''
    problems: tuple[str, ...]  # one line per folder or link that was left out, and why
    unread: int  # photos that an extra would read
    ignored: int  # files with other endings
    passed_over: tuple[str, ...]  # hidden files and folders, and folders of programs

    def fingerprint(self) -> str:
        """Tells this tree from one where any image file has another name, size or time."""
        digest = hashlib.sha256()
        for part in (self.files.block, self.files.ends, self.sizes, self.times):
            digest.update(np.ascontiguousarray(part).tobytes() + b"|")
        return digest.hexdigest()


@dataclasses.dataclass
class _Found:
    """What a walk has met so far, but for the files."""

    directories: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    passed_over: list[str] = dataclasses.field(default_factory=list)


def walk(root: Path) -> Tree:
    """Looks through the whole tree, every folder once.

    Links are followed after all real folders, so that an image has the name of the place where it lies wherever it
    lies below the root. Hidden files and folders are left out: tools keep thumbnails and locks there.
    """
    found, met = _Found(), Counter()
    endings, unread_endings = formats.endings(), formats.unread_endings()
    files: list[bytes] = []  # as the system has them: encoded once, for sorting, asking and keeping
    for directory, names in _folders(root, found):
        small = [(name.lower(), name) for name in names]
        images = [name for low, name in small if low.endswith(endings)]
        unread = sum(low.endswith(unread_endings) for low, _ in small)
        met.update(unread=unread, ignored=len(names) - len(images) - unread)
        if images:
            prefix = os.fsencode(_join(directory, ""))
            files += [prefix + name for name in os.fsencode("\0".join(images)).split(b"\0")]
    files.sort()
    told = overlapped(lambda chunk: _sizes_and_times(root, chunk), chunks(files))
    sizes_and_times = np.concatenate([np.empty((0, 2), np.int64), *told])
    return Tree(
        files=NameTable.of_bytes(files),
        sizes=sizes_and_times[:, 0].copy(),
        times=sizes_and_times[:, 1].copy(),
        directories=NameTable.pack(found.directories),
        problems=tuple(found.problems),
        unread=met["unread"],
        ignored=met["ignored"],
        passed_over=tuple(found.passed_over),
    )


def chunks(names: Sequence[_Name]) -> list[Sequence[_Name]]:
    """The names in parts that are asked for together."""
    return [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]


def _folders(root: Path, found: _Found) -> Iterator[tuple[str, list[str]]]:
    """(directory, names of its files) of the whole tree."""
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
                found.problems.append(_met_again(directory, visited[identity]))
                continue
            inside, names = _list(root, directory, found.passed_over)
        except OSError as error:
            found.problems.append(f"{directory!r} cannot be listed: {error.strerror}")
            continue
        visited[identity] = directory
        found.directories.append(directory)
        yield directory, names
        waiting += [_join(directory, entry.name) for entry in reversed(inside) if not entry.is_symlink()]
        links += [_join(directory, entry.name) for entry in inside if entry.is_symlink()]


def _list(root: Path, directory: str, passed_over: list[str]) -> tuple[list[os.DirEntry[str]], list[str]]:
    """The folders in a directory, sorted, and the names of its files; what it hides is added to `passed_over`."""
    inside, names, hidden = [], [], []
    with os.scandir(root / directory) as listed:
        for entry in listed:
            is_directory = _is_directory(entry)
            if entry.name.startswith(".") or (is_directory and entry.name.lower() in OF_PROGRAMS):
                hidden.append(_join(directory, entry.name))
            elif is_directory:
                inside.append(entry)
            else:
                names.append(entry.name)
    passed_over += sorted(hidden, key=os.fsencode)
    return sorted(inside, key=lambda entry: os.fsencode(entry.name)), names


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _met_again(directory: str, first: str) -> str:
    if not first or directory.startswith(f"{first}/"):
        return f"{directory!r} is a link to a folder that contains it; not followed"
    return f"{directory!r} is the same folder as {first!r}; its images are listed there"


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file, it cannot be read and is reported with the others
        return False


def _sizes_and_times(root: Path, names: Sequence[bytes]) -> np.ndarray:
    """[names, 2] of int64: size and time of every file."""
    top, told = os.path.join(os.fsencode(root), b""), []
    for name in names:
        try:
            status = os.stat(top + name)
            told.append((status.st_size, status.st_mtime_ns))
        except OSError:  # a link to nowhere; opening it tells what is wrong
            told.append(_GONE)
    return np.array(told, np.int64)
