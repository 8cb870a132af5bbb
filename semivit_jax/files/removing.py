"""Remove and set aside folders in an order that a kill does not hurt, and tell whole checkpoints from others."""

import os
import shutil

from semivit_jax.files import address, patience, store
from semivit_jax.files.places import Path

_REMOVED = ".removed"  # ending of what is to go
_COMMITTED = "commit_success.txt"  # orbax puts it into a checkpoint that is written whole


def committed(checkpoint: Path) -> bool:
    """Whether orbax has written a checkpoint whole."""
    return (checkpoint / _COMMITTED).exists()


def away(folder: Path) -> str:
    """Why the store of a folder was given up, while it does not answer; "" where it does, and on a disk."""
    return patience.away() if address.is_bucket(folder) else ""


def pause(folder: Path) -> float:
    """Seconds between two looks at what another process writes there; a bucket answers each with a request."""
    return 1.0 if address.is_bucket(folder) else 0.0


def remove(folder: Path) -> None:
    """Removes a folder that nobody takes for a whole one, or what `discard` has left of one."""
    if not address.is_bucket(folder):
        shutil.rmtree(folder)
        return
    doomed = folder.with_name(folder.name.removesuffix(_REMOVED))
    store.delete_all(doomed / found.name for found in store.below(doomed))
    store.delete_all([folder] if folder != doomed else [])


def discard(folder: Path, first: str) -> None:
    """Removes a folder, its file `first` before the rest: half a one never looks whole, and has another name.

    In a bucket, where nothing is renamed, an object of that other name says that it is to be removed.
    """
    doomed = folder.with_name(f"{folder.name}{_REMOVED}")
    if address.is_bucket(folder):
        store.write(doomed, b"")
        store.delete_all([folder / first])
    else:
        os.rename(folder, doomed)
        (doomed / first).unlink(missing_ok=True)
    remove(doomed)


def set_aside(folder: Path, to: Path) -> None:
    """Moves a folder whose content is to be kept."""
    if not address.is_bucket(folder):
        os.rename(folder, to)
        return
    store.copy_all((folder / found.name, to / found.name) for found in store.below(folder))
    store.write(folder.with_name(f"{folder.name}{_REMOVED}"), b"")
    remove(folder.with_name(f"{folder.name}{_REMOVED}"))
