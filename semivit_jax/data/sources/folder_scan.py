"""Find the image files of a folder; what their first bytes said is asked once.

A file counts as an image by its ending and its first bytes; the others are left out and reported. Every start looks
through the folder and asks each file for its size and time. While names, sizes and times of all are the same, only
the files that were left out are opened again, since permissions change none of these. What was found is kept in the
user's cache, never in the folder itself. An image whose content changes meanwhile, with all this as it was, is a bad
record when training reads it.
"""

import dataclasses
import hashlib
import itertools
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from semivit_jax import console
from semivit_jax.data.images import formats
from semivit_jax.data.sources import kept
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_walk import Tree, chunks, walk
from semivit_jax.data.sources.listing import NameTable
from semivit_jax.data.sources.overlap import overlapped
from semivit_jax.words import counted

_FORMAT = 2  # of what is kept; raised when its meaning changes

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a folder holds; all paths are relative to it, with `/`."""

    names: Sequence[str]  # usable images, sorted
    sizes: np.ndarray  # int64 [names], bytes
    directories: Sequence[str]  # all directories, the folder itself as ''
    problems: Sequence[str]  # one line per file, folder or link that was left out, and why
    unread: int  # photos that an extra would read
    ignored: int  # files with other endings
    passed_over: Sequence[str]  # hidden files and folders, and those of programs
    fingerprint: str  # of names, sizes and times of all image files


def scan(root: Path, *, cache_dir: Path) -> Scan:
    """The images below `root`.

    Raises:
      DatasetError: if `root` is not a folder or holds no image.
    """
    if not root.is_dir():
        raise DatasetError(f"{str(root)!r} is not a folder; config.data.root must be a folder of images")
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    saved = cache_dir / f"checked_{place}.npz"
    with console.working(f"looking through {root}"):
        tree = walk(root)
    doubtful = _recall(saved, tree)
    if doubtful is None:
        _log.info("listing the images in %s (kept for the next start)", root)
    complaints = _complaints(root, tree, np.arange(len(tree.files)) if doubtful is None else doubtful)
    if doubtful is None:
        kept.keep(saved, {"doubtful": np.array(sorted(complaints), np.int64)}, fingerprint=_state(tree))
    found = _usable(tree, complaints)
    if not len(found.names):
        endings = f"no images in {str(root)!r} (endings {', '.join(formats.endings())})"
        raise DatasetError("\n".join([endings, *not_looked_at(root, found), *found.problems[:10]]))
    return found


def not_looked_at(root: Path, found: Scan) -> list[str]:
    """What takes no part without having been opened, and what to do for it to take part: a line for each kind."""
    lines = []
    if found.unread:
        these = counted(found.unread, "file")
        kinds = ", ".join(formats.unread_endings())
        lines.append(f"{these} in {str(root)!r} not read ({kinds}) and take no part; {formats.how_to_read_heic()}")
    if found.passed_over:
        these = counted(len(found.passed_over), "hidden file or folder", "hidden files and folders")
        first = f"{found.passed_over[0]!r} first; rename what is to take part"
        lines.append(f"{these}, or of programs, in {str(root)!r} passed over, {first}")
    return lines


def _usable(tree: Tree, complaints: dict[int, str]) -> Scan:
    """The tree without the files, by their places, that there are complaints about."""
    good = np.ones(len(tree.files), bool)
    good[list(complaints)] = False
    return Scan(
        names=NameTable.pack(itertools.compress(tree.files, good)) if complaints else tree.files,
        sizes=tree.sizes[good],
        directories=tree.directories,
        problems=(*tree.problems, *complaints.values()),
        unread=tree.unread,
        ignored=tree.ignored,
        passed_over=tree.passed_over,
        fingerprint=_state(tree),
    )


def _state(tree: Tree) -> str:
    return f"{_FORMAT} {tree.fingerprint()}"


def _recall(file: Path, tree: Tree) -> np.ndarray | None:
    """Places of the files that were left out of the same tree; None where it is another one or was not kept."""
    found = kept.recall(file, {"doubtful": "int64"}, fingerprint=_state(tree))
    if found is None:
        return None
    doubtful = found["doubtful"]
    if len(doubtful) and not (doubtful.min() >= 0 and doubtful.max() < len(tree.files)):
        kept.damaged(file, "it names files beyond the last one")
        return None
    return doubtful


def _complaints(root: Path, tree: Tree, places: np.ndarray) -> dict[int, str]:
    """Place -> why the file there is not usable, of those among `places` that are not."""
    names = list(tree.files) if len(places) == len(tree.files) else [tree.files[int(place)] for place in places]
    told = zip(places.tolist(), _each_complaint(root, names), strict=True)
    return {place: complaint for place, complaint in told if complaint}


def _each_complaint(root: Path, names: Sequence[str]) -> Iterator[str]:
    parts = chunks(names)
    checks = overlapped(lambda part: [_complaint(root, name) for name in part], parts)
    title = f"checking {counted(len(names), 'file')}, thousand by thousand"
    for complaints in console.track(checks, title, total=len(parts)):
        yield from complaints


def _complaint(root: Path, name: str) -> str:
    """Why a file is not usable as an image, from its first bytes; '' if it looks like one."""
    path = os.path.join(root, name)  # `root / name` takes as long as opening the file
    try:
        # Opening a pipe waits for somebody who writes to it, for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return f"{name!r} is not a regular file"
        with open(path, "rb", buffering=0) as file:
            head = file.read(formats.HEAD_BYTES)
    except OSError as error:
        return f"{name!r} cannot be read: {error.strerror}"
    if not head:
        return f"{name!r} is empty"
    if head.startswith(b"RIFF"):
        known = head.endswith(b"WEBP")
    elif head[4:8] == b"ftyp":
        known = head[8:] in (*formats.AVIF_BRANDS, *formats.SHARED_BRANDS, *formats.HEIC_BRANDS)
    else:
        known = head.startswith(formats.STARTS)
    if not known:
        return f"{name!r} is not an image of a known format; it begins with {head!r}"
    return ""
