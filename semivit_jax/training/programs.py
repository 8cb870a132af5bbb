"""Keep compiled programs for the next start, and tell whether the step was among them."""

import dataclasses
import functools
import logging
import os

import jax

from semivit_jax import files
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.files import address

_log = logging.getLogger(__name__)
_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


@dataclasses.dataclass
class _Heard:
    """What jax has said of the program that it was to compile last."""

    asked: bool = False  # whether it looked into a cache
    found: bool = False
    kept: bool = False  # written, which of several processes the first one does


_heard = _Heard()


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says, in a bucket too.

    A place that cannot be used costs the time to compile, no more.
    """
    _listen()
    named = os.environ.get(_VARIABLE, "")
    if not named:
        _keep_in_users_cache()
    elif address.looks_like_one(named):
        _keep_in_bucket(named)


def _keep_in_users_cache() -> None:
    folder = cache_dir() / "compiled"
    if why := files.why_no_folder(folder):
        _log.warning(
            "compiled programs are not kept for the next start, since %s; set XDG_CACHE_HOME or "
            "JAX_COMPILATION_CACHE_DIR to a folder that can be written to, or --config.train.compilation_cache=False",
            why,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _keep_in_bucket(named: str) -> None:
    """Asks the bucket first: jax would warn of it at every program."""
    try:
        place = str(files.path(named))
    except OSError as error:
        _log.warning("compiled programs are not kept for the next start: %s=%s", _VARIABLE, error)
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_compilation_cache_dir", place)
    # Beside its programs XLA would keep what it tries out on GPUs, in files of its own, which cannot be in a bucket.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def told() -> str:
    """Whether the program compiled last was found, as the end of a sentence; "" where no cache was asked."""
    if not _heard.asked:
        return ""
    place = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue] - set at run time
    if _heard.found:
        return f"; the step was compiled before, and came from {place}"
    return f"; the step was not in {place}" + (", and is now" if _heard.kept else "")


@functools.cache  # a listener stays until the process ends
def _listen() -> None:
    jax.monitoring.register_event_listener(_hear)


def _hear(event: str, **_: str | int) -> None:
    match event.removeprefix("/jax/compilation_cache/"):
        case "compile_requests_use_cache":
            _heard.asked, _heard.found, _heard.kept = True, False, False
        case "cache_hits":
            _heard.found = True
        case "cache_misses":  # recorded where a program is written
            _heard.kept = True
