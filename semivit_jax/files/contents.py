"""List what is in a folder, with sizes and checksums."""

import base64
import contextlib
import fnmatch
import functools
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from semivit_jax.files import address, store
from semivit_jax.files.places import Path
from semivit_jax.hosts import extras

_CHUNK = 1 << 22  # bytes read at a time
_CRC32C = "crc32c:"  # begins a checksum that a bucket has reported


class File(NamedTuple):
    """What is known of a file: where it is, its bytes, and CRC-32C as a bucket reports it; '' on a disk."""

    place: Path
    size: int
    crc32c: str


def inventory(folder: Path) -> dict[str, File]:
    """Every file below a folder, by its name there; nothing is read."""
    if address.is_bucket(folder):
        return {name: File(folder / name, size, crc32c) for name, size, crc32c in sorted(store.below(folder))}
    found = {}
    for name in below(folder):
        with contextlib.suppress(FileNotFoundError):  # another process's temporary file, which has its own name by now
            found[str(name)] = File(folder / name, os.stat(folder / name).st_size, "")
    return found


def marks(folder: Path) -> dict[str, str]:
    """What changes when a file below a folder is written, by its name: bytes and time, or the checksum in a bucket."""
    if address.is_bucket(folder):
        return {name: f"{file.size} {file.crc32c}" for name, file in inventory(folder).items()}
    found = {str(name): os.stat(folder / name) for name in below(folder)}
    return {name: f"{stat.st_size} {stat.st_mtime_ns}" for name, stat in found.items()}


def checksum(file: File) -> int | str:
    """CRC-32 of a file on a disk, which finds every single flipped bit; of one in a bucket what the store reports."""
    if file.crc32c:
        return f"{_CRC32C}{file.crc32c}"
    value = 0
    for chunk in _chunks(file.place):
        value = zlib.crc32(chunk, value)
    return value


def matches(file: File, recorded: int | str) -> bool:
    """Whether a file still has the checksum that was recorded of it, there or in another store.

    Raises:
      OSError: the extra [gcs] is needed, since a bucket reported it.
    """
    if isinstance(recorded, str) and not file.crc32c:
        return f"{_CRC32C}{_crc32c(file.place)}" == recorded
    if isinstance(recorded, int) and file.crc32c:
        return zlib.crc32(file.place.read_bytes()) == recorded
    return checksum(file) == recorded


def _crc32c(file: Path) -> str:
    if not extras.installed("gcs"):
        raise OSError(
            f"{file} was sealed in a bucket; to check it install the extra [gcs]: {extras.install_line('gcs')}"
        )
    import google_crc32c

    found: int = functools.reduce(google_crc32c.extend, _chunks(file), 0)
    return base64.b64encode(found.to_bytes(4, "big")).decode()


def _chunks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as opened:
        while chunk := opened.read(_CHUNK):
            yield chunk


def below(folder: Path) -> list[Path]:
    """Every file below a folder, relative to it, sorted; links to folders are not followed."""
    if address.is_bucket(folder):
        return sorted(Path(found.name) for found in store.below(folder))
    found = (Path(inside) / name for inside, _, names in os.walk(folder) for name in names)
    return sorted(file.relative_to(folder) for file in found if file.is_file())


def matching(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has a name of that pattern, sorted; nothing where there is no folder."""
    if address.is_bucket(folder):
        return [folder / name for name in store.children(folder) if fnmatch.fnmatchcase(name, pattern)]
    if not folder.is_dir():
        return []
    return sorted(folder / name for name in os.listdir(folder) if fnmatch.fnmatchcase(name, pattern))
