"""Make requests again while a store is away, and turn what it says into an OSError of one line.

A request that the store refuses for the moment (429, 5xx) or whose connection breaks is made again, later and later,
for `PATIENCE_SECONDS`; that is said once.
"""

import errno
import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 300.0  # for which a store may stay away
_IMPATIENCE_SECONDS = 10.0  # the same once it has stayed away for so long, until it answers again
_SAID_AGAIN_SECONDS = 600.0
_log = logging.getLogger(__name__)
_said_until, _saying = 0.0, threading.Lock()
_given_up = ""  # why, while the store stays away
T = TypeVar("T")


class BucketError(OSError):
    """What a store refused; `filename` is the address, `strerror` the reason and the remedy."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class NoSuchObject(BucketError, FileNotFoundError):
    """There is no object of that name."""


class Overtaken(BucketError):
    """The object has been written by somebody else since it was read."""


def away() -> str:
    """Why a request was given up, while no later one has been answered; "" where the store is there."""
    return _given_up


def asked(address: str | os.PathLike[str], action: Callable[[], T]) -> T:
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
