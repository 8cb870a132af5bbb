"""Ask a bucket for its objects and put some there; what goes wrong becomes an OSError of one line.

A request that the store refuses for the moment (429, 5xx) or whose connection breaks is made again, later and later,
for `PATIENCE_SECONDS`; that is said once.
"""

import errno
import functools
import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, TypeVar

from semivit_jax.files.address import SCHEME, split
from semivit_jax.hosts import extras

PATIENCE_SECONDS = 300.0  # for which a store may stay away
_IMPATIENCE_SECONDS = 10.0  # the same once it has stayed away for so long, until it answers again
_SAID_AGAIN_SECONDS = 600.0
_ANSWER_SECONDS = (10.0, 60.0)  # to connect, and between two bytes
_AT_ONCE = 8  # requests, where there are many
_log = logging.getLogger(__name__)
_said_until, _saying = 0.0, threading.Lock()
_given_up = ""  # why, while the store stays away
Address = str | os.PathLike[str]
T = TypeVar("T")


class BucketError(OSError):
    """What a store refused; `filename` is the address, `strerror` the reason and the remedy."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class NoSuchObject(BucketError, FileNotFoundError):
    """There is no object of that name."""


class Overtaken(BucketError):
    """The object has been written by somebody else since it was read."""


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
        _asked(address, lambda: list(_client().list_blobs(bucket, max_results=1, retry=None, timeout=_ANSWER_SECONDS)))
    except NoSuchObject as error:
        told = f"there is no such bucket; create it (gcloud storage buckets create {address}), or mend the name"
        raise BucketError(errno.ENOENT, told, address) from error


def away() -> str:
    """Why a request was given up, while no later one has been answered; "" where the store is there."""
    return _given_up


def read(address: Address) -> bytes:
    """The whole object."""
    return _asked(address, lambda: _blob(address).download_as_bytes(retry=None, timeout=_ANSWER_SECONDS))


def read_into(address: Address, file: BinaryIO) -> None:
    """The whole object into an empty file."""

    def ask() -> None:
        file.seek(0)
        file.truncate()
        _blob(address).download_to_file(file, retry=None, timeout=_ANSWER_SECONDS)

    _asked(address, ask)


def read_with_generation(address: Address) -> tuple[bytes, int]:
    """The whole object, and the number of its writing."""

    def ask() -> tuple[bytes, int]:
        blob = _blob(address)
        content = blob.download_as_bytes(retry=None, timeout=_ANSWER_SECONDS)
        return content, int(blob.generation)

    return _asked(address, ask)


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

    return _asked(address, ask)


def has_object(address: Address) -> bool:
    """Whether there is an object of exactly that name."""
    return _asked(address, lambda: _blob(address).exists(retry=None, timeout=_ANSWER_SECONDS))


def exists(address: Address) -> bool:
    """Whether there is an object of that name, or anything below; mostly one request."""
    bucket, key = split(address)
    ask = functools.partial(_client().list_blobs, bucket, prefix=key, max_results=1)
    first = next((b.name for b in _asked(address, lambda: list(ask(retry=None, timeout=_ANSWER_SECONDS)))), None)
    if first is None or first == key or first.startswith(f"{key}/"):
        return first is not None
    return has_object(address) or has_folder(address)  # others begin alike, as 10-old and 100 do for 10


def has_folder(address: Address) -> bool:
    """Whether there is anything below."""
    return any(True for _ in _listed(address, most=1))


def children(address: Address) -> list[str]:
    """Names in a folder, of objects and of folders, sorted."""
    return sorted(_asked(address, lambda: _names(address)))


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

    return _asked(address, ask)


def delete(address: Address) -> None:
    """Removes an object.

    Raises:
      NoSuchObject: there is none.
    """
    _asked(address, lambda: _blob(address).delete(retry=None, timeout=_ANSWER_SECONDS))


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

    _asked(source, ask)


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
    return iter(_asked(address, lambda: list(ask(retry=None, timeout=_ANSWER_SECONDS))))


def _asked(address: Address, action: Callable[[], T]) -> T:
    """The action's result, tried again while the store is away.

    Raises:
      BucketError: what the store, or the way to it, says.
    """
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage import exceptions as storage
    from google.cloud.storage.retry import DEFAULT_RETRY

    global _given_up
    where, patience = os.fspath(address), _IMPATIENCE_SECONDS if _given_up else PATIENCE_SECONDS
    try:
        found = DEFAULT_RETRY.with_timeout(patience)(action, on_error=functools.partial(_say_once, where))()
        _given_up = ""
        return found
    except api.RetryError as error:
        _given_up = f"the store does not answer; tried for {patience:.0f} s ({_reason(error.cause)})"
        raise BucketError(errno.ETIMEDOUT, _given_up, where) from error
    except api.NotFound as error:
        raise NoSuchObject(errno.ENOENT, "there is no such object", where) from error
    except api.PreconditionFailed as error:
        raise Overtaken(errno.EEXIST, "it has been written by somebody else", where) from error
    except (api.Forbidden, api.Unauthorized) as error:
        lacking = re.search(r"storage\.\w+\.\w+", str(error))
        right = lacking[0] if lacking else "to read and write objects"
        told = f"no permission ({right}); the account needs the role Storage Object User (roles/storage.objectUser)"
        raise BucketError(errno.EACCES, told, where) from error
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        told = (
            "no credentials that can be used; run `gcloud auth application-default login`, or give the machine a "
            "service account"
        )
        raise BucketError(errno.EACCES, told, where) from error
    except (api.GoogleAPIError, auth.GoogleAuthError, storage.InvalidResponse, storage.DataCorruption) as error:
        raise BucketError(errno.EIO, _reason(error), where) from error


def _say_once(where: str, error: Exception) -> None:
    """Says that the store is away; then not again for a while, however many requests meet that."""
    global _said_until
    with _saying:
        if time.monotonic() < _said_until:
            return
        _said_until = time.monotonic() + _SAID_AGAIN_SECONDS
    _log.warning(
        "%s: the store is away for the moment (%s); requests are made again for up to %.0f s each",
        where,
        _reason(error),
        PATIENCE_SECONDS,
    )


def _reason(error: BaseException | None) -> str:
    """What an error says, without the address of the request, which may hold a token."""
    code = getattr(error, "code", None)
    if code is not None:
        return f"{int(code)} {type(error).__name__}"
    return type(error).__name__
