"""Keep what took long to find out for the next start; a file that cannot be written or read costs time alone."""

import functools
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from semivit_jax import files
from semivit_jax.files import AnyPath, writing

_log = logging.getLogger(__name__)
_MADE_FROM = "fingerprint"  # key of what tells which state of the data the arrays belong to


def cache_dir() -> Path:
    """The user's cache folder of this project; it need not be there, nor be one that can be written to."""
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and a user whom the system does not know, as containers have them
        user = _cache_without_home()
    return user / "semivit_jax"


@functools.cache  # said once
def _cache_without_home() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cache_of_user_{os.getuid()}"
    if folder.exists() and folder.stat().st_uid != os.getuid():  # what another user put there is not to be believed
        folder = Path(tempfile.mkdtemp(prefix="cache_"))
    _log.warning("no home folder, so %s serves as cache; set XDG_CACHE_HOME to a folder that stays", folder)
    return folder


def write(file: AnyPath, arrays: Mapping[str, np.ndarray], *, fingerprint: str) -> None:
    """Writes the arrays, which `recall` gives back for the same fingerprint; the file appears whole.

    Raises:
      OSError: it cannot be written.
    """
    with writing(file) as opened:
        # allow_pickle is np.savez's only key of its own; pyright takes every array for it.
        np.savez(opened, **{**arrays, _MADE_FROM: np.array(fingerprint)})  # pyright: ignore[reportArgumentType]


def keep(file: Path, arrays: Mapping[str, np.ndarray], *, fingerprint: str) -> None:
    """Writes the arrays as `write` does, and warns where that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, arrays, fingerprint=fingerprint)
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s), so the next start does the same work again; make room there, or set "
            "XDG_CACHE_HOME to a folder that can be written to",
            file,
            error.strerror or error,
        )


def recall(file: AnyPath, dtypes: Mapping[str, str], *, fingerprint: str) -> dict[str, np.ndarray] | None:
    """The arrays kept with that fingerprint, or None where there are none.

    Args:
      file: of `keep`.
      dtypes: of every array, which has one axis; an array of another kind makes a file a damaged one.
      fingerprint: of the data now.
    """
    try:
        # Opened here, since numpy leaves a file open that is no archive.
        with (
            files.on_a_disk(files.Path(file)) as local,
            open(local, "rb") as opened,
            np.load(opened, allow_pickle=False) as saved,
        ):
            if str(saved[_MADE_FROM]) != fingerprint:
                return None
            arrays = {key: saved[key] for key in dtypes}
        for key, dtype in dtypes.items():
            if arrays[key].ndim != 1 or not np.issubdtype(arrays[key].dtype, dtype):
                raise ValueError(f"{key} is an array of {arrays[key].dtype} {arrays[key].shape}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever numpy trips over in a file that is cut off, of another program, or no archive
        damaged(file, error)
        return None
    return arrays


def damaged(file: AnyPath, reason: object) -> None:
    """Says that what a file keeps is found out again."""
    _log.warning(
        "%s is damaged or cannot be read (%s): what it kept is found out again; remove it if this is said once more",
        file,
        " ".join(str(reason).split()),
    )
