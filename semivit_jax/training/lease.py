"""Hold a workdir for one run at a time: a lease, which the first host takes for all processes of the run.

It is a small file in the workdir that names the holder and is written anew every few seconds. A process that was killed
leaves it behind. On its own machine that is seen at once, so a run that is resumed there waits for nothing; another
machine knows it by its silence alone.
"""

import contextlib
import dataclasses
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator

import jax

from semivit_jax import console, files
from semivit_jax.config import ConfigError
from semivit_jax.files import Path
from semivit_jax.hosts import agreement, identity
from semivit_jax.hosts.identity import Process

LEASE = ".lease.json"
BEAT_SECONDS = 10.0
WAIT_SECONDS = 60.0  # six beats: whoever is silent for so long is gone
_ALIVE_SECONDS = 3 * BEAT_SECONDS  # within which a holder that is alive is heard of
_LOOK_SECONDS = 1.0  # between two looks at another machine's lease
_LOST = 1  # exit code of a holder whose lease another one has taken

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Lease:
    """What the file says.

    Attributes:
      process: that holds the workdir.
      token: of its start; a process may hold one workdir after another.
      since: when it was taken, for people.
      beat: how often it has been written since.
    """

    process: Process
    token: str
    since: str
    beat: int = 0

    def __str__(self) -> str:
        return f"{self.process}, since {self.since}"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the workdir while the block runs. Collective: the first host holds it for all.

    A folder that was made for it, and holds nothing in the end, goes with it.

    Raises:
      ConfigError: a run that is alive holds the workdir. OSError: it cannot be made or written to.
    """
    first_host = jax.process_index() == 0
    lease = Lease(identity.this_process(), secrets.token_hex(8), time.strftime("%d %B %Y, %H:%M:%S %Z"))
    made = first_host and not folder.exists()
    agreement.together(lambda: _take(folder, lease) if first_host else None, errors=(ConfigError, OSError))
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, lease, ended), daemon=True)
    if first_host:
        beating.start()
    try:
        yield
    finally:
        ended.set()
        if first_host:
            beating.join()
            _release(folder, lease, made=made)


def holder(folder: Path) -> Lease | None:
    """Who holds the workdir; None where nobody does. One of another machine is given a few beats to show itself."""
    found, _ = _read(folder)
    here = identity.this_process()
    if found is None or identity.is_gone(found.process, here):
        return None
    if identity.is_neighbour(found.process, here):
        return found
    limit = time.monotonic() + _ALIVE_SECONDS
    with console.working(f"waiting for a sign of {found.process}"):
        while time.monotonic() < limit:
            time.sleep(_LOOK_SECONDS)
            now, _ = _read(folder)
            if now != found:
                return now
    return None


def _take(folder: Path, lease: Lease) -> None:
    """Writes the lease, once nobody who is alive holds the workdir."""
    try:
        found = _try(folder, lease)
    except OSError as error:
        raise OSError(f"the workdir {folder} cannot be written to: {error.strerror}; nothing was started") from error
    if found is not None and not identity.is_neighbour(found.process, lease.process):
        found = _wait(folder, lease, found)
    if found is not None:
        raise ConfigError(
            f"{folder} is in use by {found}: one run at a time. Let that one end, or give another --workdir"
        )


def _try(folder: Path, lease: Lease) -> Lease | None:
    """Writes the lease if the workdir is free, or its holder known to be gone; else returns the holder's."""
    folder.mkdir(parents=True, exist_ok=True)
    with files.one_at_a_time(folder):
        found, version = _read(folder)
        if found is not None and not identity.is_gone(found.process, lease.process):
            return found
        return _replace(folder, lease, version)


def _wait(folder: Path, lease: Lease, found: Lease) -> Lease | None:
    """The same, for a while; a holder that is silent all the time is taken for gone."""
    console.say(f"{folder} is held by {found}; waiting up to {WAIT_SECONDS:.0f} s for it to end")
    limit, first = time.monotonic() + WAIT_SECONDS, found
    while time.monotonic() < limit:
        time.sleep(_LOOK_SECONDS)
        now = _try(folder, lease)
        if now is None:
            return None
        found = now
    if found != first:
        return found
    console.say(f"warning: {found.process} has been silent for {WAIT_SECONDS:.0f} s; its workdir is taken over")
    now, version = _read(folder)
    if now not in (found, None):
        return now
    if other := _replace(folder, lease, version):
        return other
    time.sleep(2 * _LOOK_SECONDS)  # another one may have waited beside this one; the last to write it holds it
    now, _ = _read(folder)
    return None if now == lease else now


def _beat(folder: Path, lease: Lease, ended: threading.Event) -> None:
    """Writes the lease again and again; ends the process where it has become another's."""
    while not ended.wait(BEAT_SECONDS):
        try:
            found, version = _read(folder)
            if found is not None and found.token != lease.token:
                os.write(2, f"semivit: {folder} was taken over by {found}; leaving it at once\n".encode())
                os._exit(_LOST)
            lease = dataclasses.replace(lease, beat=lease.beat + 1)
            _replace(folder, lease, version)  # where another one was quicker, the next beat finds it
        except OSError as error:
            _log.warning("the lease of %s cannot be written, so another run could take it: %s", folder, error)


def _release(folder: Path, lease: Lease, *, made: bool) -> None:
    found, _ = _read(folder)
    if found is None or found.token != lease.token:
        return
    (folder / LEASE).unlink()
    if made and not files.below(folder):
        files.remove(folder)


def _read(folder: Path) -> tuple[Lease | None, int]:
    """The lease, and which writing of it that is."""
    try:
        stored, version = files.read_to_replace(folder / LEASE)
        return Lease(**{**stored, "process": Process(**stored["process"])}), version
    except FileNotFoundError:
        return None, files.NOTHING
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / LEASE} cannot be read ({error}); remove it if no run uses {folder}") from error


def _replace(folder: Path, lease: Lease, version: int) -> Lease | None:
    """Writes the lease over that version; where a bucket says that another one was quicker, returns that one's."""
    try:
        files.replace_json(folder / LEASE, dataclasses.asdict(lease), over=version)
    except files.Overtaken:
        found, _ = _read(folder)
        # A request whose answer was lost is made again, and then meets its own writing.
        return found if found is None or found.token != lease.token else None
    return None
