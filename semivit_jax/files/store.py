"""Ask a bucket for its objects and put some there; a store that is away is waited for (`files.patience`)."""

import errno
import functools
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple

from semivit_jax.files.address import SCHEME, split
from semivit_jax.files.patience import BucketError, NoSuchObject, asked
from semivit_jax.hosts import extras

_ANSWER_SECONDS = (10.0, 60.0)  # to connect, and between two bytes
_AT_ONCE = 8  # requests, where there are many
Address = str | os.PathLike[str]


class Stored(NamedTuple):
    """What a store reports of an object: its name below a folder, its bytes, and CRC-32C in base 64."""

    name: str
    size: int
    crc32c: str


def check(address: str) -> None:
    """Returns if the bucket of an address is there and can be read.

    Raises:
      BucketError: it is not there, or nothing says who asks or that they may; OSError: the extra is not installed.
    """
    if not extras.installed("gcs"):
        raise OSError(f"{address}: buckets need the extra [gcs]: {extras.install_line('gcs')}")
    _check_bucket(split(address)[0])


@functools.cache  # once per process
def _check_bucket(bucket: str) -> None:
    address = f"{SCHEME}{bucket}"
    try:
        asked(address, lambda: list(_client().list_blobs(bucket, max_results=1, retry=None, timeout=_ANSWER_SECONDS)))
    except NoSuchObject as error:
        told = f"there is no such bucket; create it (gcloud storage buckets create {address}), or mend the name"
        raise BucketError(errno.ENOENT, told, address) from error


def read(address: Address) -> bytes:
    """The whole object."""
    return asked(address, lambda: _blob(address).download_as_bytes(retry=None, timeout=_ANSWER_SECONDS))


def read_into(address: Address, file: BinaryIO) -> None:
    """The whole object into an empty file."""

    def ask() -> None:
        file.seek(0)
        file.truncate()
        _blob(address).download_to_file(file, retry=None, timeout=_ANSWER_SECONDS)

    asked(address, ask)


def read_with_generation(address: Address) -> tuple[bytes, int]:
    """The whole object, and the number of its writing."""

    def ask() -> tuple[bytes, int]:
        blob = _blob(address)
        content = blob.download_as_bytes(retry=None, timeout=_ANSWER_SECONDS)
        return content, int(blob.generation)

    return asked(address, ask)


def write(address: Address, content: bytes | BinaryIO, *, over: int | None = None) -> int:
    """Writes an object, which appears whole; returns the number of its writing.

    Args:
      address: of the object.
      content: a file is read from its beginning.
      over: number of the writing that this one replaces, 0 for none; None replaces whatever is there.

    Raises:
      Overtaken: what is there is not what it was to replace.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    size = file.seek(0, os.SEEK_END)  # of small ones it makes one request where there would be two

    def ask() -> int:
        blob = _blob(address)
        options = {} if over is None else {"if_generation_match": over}
        blob.upload_from_file(file, rewind=True, size=size, retry=None, timeout=_ANSWER_SECONDS, **options)
        return int(blob.generation)

    return asked(address, ask)


def has_object(address: Address) -> bool:
    """Whether there is an object of exactly that name."""
    return asked(address, lambda: _blob(address).exists(retry=None, timeout=_ANSWER_SECONDS))


def exists(address: Address) -> bool:
    """Whether there is an object of that name, or anything below; mostly one request."""
    bucket, key = split(address)
    ask = functools.partial(_client().list_blobs, bucket, prefix=key, max_results=1)
    first = next((b.name for b in asked(address, lambda: list(ask(retry=None, timeout=_ANSWER_SECONDS)))), None)
    if first is None or first == key or first.startswith(f"{key}/"):
        return first is not None
    return has_object(address) or has_folder(address)  # others begin alike, as 10-old and 100 do for 10


def has_folder(address: Address) -> bool:
    """Whether there is anything below."""
    return any(True for _ in _listed(address, most=1))


def children(address: Address) -> list[str]:
    """Names in a folder, of objects and of folders, sorted."""
    return sorted(asked(address, lambda: _names(address)))


def below(address: Address) -> list[Stored]:
    """All objects below a folder."""
    prefix = len(split(address)[1]) + 1
    return [Stored(blob.name[prefix:], blob.size, blob.crc32c) for blob in _listed(address, most=None)]


def stored(address: Address) -> Stored:
    """What is known of one object."""

    def ask() -> Stored:
        blob = _blob(address)
        blob.reload(retry=None, timeout=_ANSWER_SECONDS)
        return Stored(blob.name, blob.size, blob.crc32c)

    return asked(address, ask)


def delete(address: Address) -> None:
    """Removes an object.

    Raises:
      NoSuchObject: there is none.
    """
    asked(address, lambda: _blob(address).delete(retry=None, timeout=_ANSWER_SECONDS))


def delete_all(addresses: Iterable[Address]) -> None:
    """Removes objects, which somebody else may have removed first."""

    def remove(address: Address) -> None:
        try:
            delete(address)
        except NoSuchObject:
            return

    with ThreadPoolExecutor(_AT_ONCE) as several:
        list(several.map(remove, addresses))


def copy(source: Address, to: Address) -> None:
    """Copies an object inside its bucket, which no byte leaves."""
    bucket, name = split(to)

    def ask() -> None:
        there = _client().bucket(bucket)
        _client().bucket(split(source)[0]).copy_blob(_blob(source), there, name, retry=None, timeout=_ANSWER_SECONDS)

    asked(source, ask)


def copy_all(pairs: Iterable[tuple[Address, Address]]) -> None:
    """Copies objects, each to its new address."""
    with ThreadPoolExecutor(_AT_ONCE) as several:
        list(several.map(lambda pair: copy(*pair), pairs))


@functools.cache
def _client() -> Any:
    import google.cloud.storage as storage  # a second that a run on a disk need not wait

    return storage.Client(project=None)  # of objects no project is asked


def _blob(address: Address) -> Any:
    bucket, key = split(address)
    return _client().bucket(bucket).blob(key)


def _names(address: Address) -> list[str]:
    prefix = f"{split(address)[1]}/"
    found = _client().list_blobs(split(address)[0], prefix=prefix, delimiter="/", retry=None, timeout=_ANSWER_SECONDS)
    objects = [blob.name for blob in found]  # the folders are known once these are read
    return [name.removeprefix(prefix).rstrip("/") for name in (*objects, *found.prefixes) if name != prefix]


def _listed(address: Address, *, most: int | None) -> Iterator[Any]:
    bucket, key = split(address)
    ask = functools.partial(_client().list_blobs, bucket, prefix=f"{key}/", max_results=most)
    return iter(asked(address, lambda: list(ask(retry=None, timeout=_ANSWER_SECONDS))))
