"""Find the images that the rows of a file of labels name, and the common cause where many are not found."""

import dataclasses
import functools
import os
import posixpath
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from semivit_jax.data.images import formats
from semivit_jax.data.sources.label_table import Row
from semivit_jax.words import counted

_EXPLAINED = 100  # missing files that are looked for among those left out; a message holds fewer
_FEW = 3  # missing files that are named one by one even where they are all
# Ways in which a path may be near that of an image, nearest first: what both have in common.
_NEAR: Mapping[str, Callable[[str], str]] = {
    "": lambda path: path,
    "case": str.casefold,
    "ending": lambda path: posixpath.splitext(path)[0].casefold(),
    "folder": lambda path: posixpath.basename(path).casefold(),
    "folder and ending": lambda path: posixpath.splitext(posixpath.basename(path))[0].casefold(),
}
_RULES = {
    "case": "capital and small letters must be those of the file",
    "ending": "a path ends as its file does",
    "folder": "a path names the folders below that one, too",
    "folder and ending": "a path names the folders below that one, too, and ends as its file does",
}


class _Kind(NamedTuple):
    """What is wrong with paths that are near to those of images."""

    alike: str  # key of _NEAR
    in_front: bool  # they have a folder in front that is not below the root


class Miss(NamedTuple):
    """A row whose path is no image."""

    row: Row
    outside: bool  # of the root, as it is written


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a folder, to be found by what people write."""

    root: Path
    names: Sequence[str]

    @functools.cached_property
    def _positions(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @functools.cached_property
    def _composed(self) -> Mapping[str, int | None]:
        """Position by the composed name; None where two files differ in composition alone."""
        found: dict[str, int | None] = {}
        for index, name in enumerate(self.names):
            composed = unicodedata.normalize("NFC", name)
            found[composed] = None if composed in found else index
        return found

    def find(self, given: str) -> int | None:
        """Position of the image that a path means, or None.

        It is relative to the root or absolute. Where no file has exactly this name, blanks around it, the composition
        of accents and backslashes for `/` make no difference.
        """
        for written in dict.fromkeys((given, given.strip(), _slashed(given))):
            name = relative(written, self.root)
            if name is None:
                continue
            found = self._positions.get(name)
            if found is None and not name.isascii():
                found = self._composed.get(unicodedata.normalize("NFC", name))
            if found is not None:
                return found
        return None

    def causes(self, misses: Sequence[Miss], *, file: str, num_rows: int, left_out: Sequence[str]) -> list[str]:
        """One line for every kind of mistake that many paths share, and one for each path without such a kind.

        Args:
          misses: rows whose path `find` did not find.
          file: name of the file of labels.
          num_rows: of the file.
          left_out: what the scan says about files and folders that it left out.
        """
        shared: dict[_Kind, list[tuple[Row, str]]] = {}
        alone: list[str] = []
        unlike = 0  # misses that nothing explains
        for number, miss in enumerate(misses):
            # A file that was left out is not to be called another one of a similar name.
            reason = _left_out(relative(miss.row.path, self.root), left_out) if number < _EXPLAINED else None
            near = None if reason else self._nearest(miss.row.path)
            if near is None:
                unlike += reason is None
                alone.append(f"{file} line {miss.row.line}: {reason or self._reason(miss)}")
            else:
                kind, name = near
                shared.setdefault(kind, []).append((miss.row, name))
        if unlike == num_rows > _FEW:
            return [
                f"{file}: none of {num_rows:,} paths is that of an image, {misses[0].row.path!r} first; they are "
                f"relative to {str(self.root)!r}, as {self.names[0]!r} is"
            ]
        return [*(self._shared(file, kind, found) for kind, found in shared.items()), *alone]

    @functools.cached_property
    def _near(self) -> Mapping[str, Mapping[str, str | None]]:
        """Kind of nearness -> what is in common -> the one image with it; None where there are several."""
        near: dict[str, dict[str, str | None]] = {kind: {} for kind in _NEAR}
        for name in self.names:
            composed = unicodedata.normalize("NFC", name)
            for kind, common in _NEAR.items():
                key = common(composed)
                near[kind][key] = None if key in near[kind] else name
        return near

    def _nearest(self, given: str) -> tuple[_Kind, str] | None:
        """How a path is near to that of an image, and the image's; None where it is not."""
        parts = [part for part in _slashed(unicodedata.normalize("NFC", given)).split("/") if part not in ("", ".")]
        for alike, common in _NEAR.items():
            if alike.startswith("folder") and len(parts) > 1:
                continue
            for start in range(len(parts)):
                name = self._near[alike].get(common("/".join(parts[start:])))
                if name:
                    return _Kind(alike, in_front=start > 0 or not alike), name
        return None

    def _shared(self, file: str, kind: _Kind, found: Sequence[tuple[Row, str]]) -> str:
        (row, name), more = found[0], len(found) - 1
        lead = f"paths are relative to {str(self.root)!r}, without what leads there"
        rules = ", and ".join([*([lead] if kind.in_front else []), *([_RULES[kind.alike]] if kind.alike else [])])
        others = f", and so in {counted(more, 'further row')}" if more else ""
        return f"{file} line {row.line}: there is no image {row.path!r}, but {name!r}{others}; {rules}"

    def _reason(self, miss: Miss) -> str:
        given = miss.row.path
        if miss.outside:
            return f"{given!r} is outside the folder {str(self.root)!r}"
        if given.lower().endswith(formats.unread_endings()):
            return f"{given!r} is of a format that is not read; {formats.how_to_read_heic()}"
        return f"there is no image {given!r} in {str(self.root)!r}"


def relative(given: str, root: Path) -> str | None:
    """The path relative to the root, in its simplest form; None if it leads out of it."""
    if given.startswith("/"):
        top = _root_of(Path(given), root)
        if top is None:
            return None
        given = Path(given).relative_to(top).as_posix()
    simple = posixpath.normpath(given)
    return None if simple == ".." or simple.startswith("../") else simple


def _slashed(given: str) -> str:
    """A path of Windows, with the signs that one has here."""
    return given.strip().replace("\\", "/")


def _root_of(path: Path, root: Path) -> Path | None:
    """The beginning of an absolute path that is the root, by its name or by another: through a link or `..`."""
    if ".." not in path.parts and path.is_relative_to(root.absolute()):
        return root.absolute()
    return next((above for above in path.parents if _is_same(above, root)), None)


def _is_same(path: Path, root: Path) -> bool:
    try:
        return os.path.samefile(path, root)
    except (OSError, ValueError):  # not there; a sign that no path may hold
        return False


def _left_out(name: str | None, left_out: Sequence[str]) -> str | None:
    """What the scan says of a file, or of a folder above it; None if nothing."""
    if name is None:
        return None
    above = [f"{folder.as_posix()!r} " for folder in PurePosixPath(name).parents]
    return next((text for text in left_out if text.startswith((f"{name!r} ", *above))), None)
