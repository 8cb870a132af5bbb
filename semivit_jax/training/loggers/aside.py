"""Keep a logger out of the run's way: in a thread, behind a queue that does not grow without end."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from semivit_jax.hosts import stopping
from semivit_jax.hosts.redact import redacted
from semivit_jax.training.loggers.spec import Writer

WAITING = 1000  # steps whose numbers wait for a logger; of later ones they are left out
FLUSH_SECONDS = 30.0  # for which a checkpoint is not sealed, because its numbers are not kept yet
CLOSE_SECONDS = 10.0  # for which the end of a stage waits
_LOOK_SECONDS = 0.05
_LONGEST = 200  # signs of what an error says
_log = logging.getLogger(__name__)


class _Numbers(NamedTuple):
    """Of one step."""

    step: int
    values: Mapping[str, float]


class _End(NamedTuple):
    """No more will come."""


class Aside:
    """Writes to a logger from a thread of its own, in which the logger is opened too.

    One that fails gets no more numbers until the next start, one that lags misses some, one that hangs is left behind;
    each of it is said once.
    """

    def __init__(self, name: str, open_it: Callable[[], Writer]):
        self._name, self._open = name, open_it
        self._queue: queue.Queue[_Numbers | threading.Event | _End] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self._lags = self._late = False
        self._deadline = 0.0
        threading.Thread(target=self._go, name=f"logger {name}", daemon=True).start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if not self._ended.is_set():
            self._put(_Numbers(step, dict(values)))

    def flush(self) -> None:
        """Returns once the logger has kept what was written, or has failed, or takes too long for that."""
        if self._late:
            return
        kept, limit = threading.Event(), time.monotonic() + FLUSH_SECONDS
        self._put(kept)
        while not (self._ended.is_set() or kept.wait(_LOOK_SECONDS)):
            if time.monotonic() > limit:
                self._late = True
                self._warn(f"has not answered for {FLUSH_SECONDS:.0f} s; checkpoints wait for it no longer")
                return

    def end(self) -> None:
        """Tells the logger that no more will come; `close` waits from here on."""
        self._deadline = time.monotonic() + CLOSE_SECONDS
        if self._queue.full():  # the end takes the place of the oldest
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
        self._put(_End())

    def close(self) -> None:
        """Waits for the end, for a while."""
        if not self._ended.wait(max(0.0, self._deadline - time.monotonic())):
            self._warn("does not end; what it has not sent may be missing there")
            stopping.wait_for_nobody()

    def _put(self, item: _Numbers | threading.Event | _End) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            if not self._lags:
                self._warn("lags behind; it misses numbers until it has caught up")
            self._lags = True

    def _go(self) -> None:
        try:
            writer = self._open()
            while not isinstance(item := self._queue.get(), _End):
                if isinstance(item, _Numbers):
                    writer.write(item.step, item.values)
                else:
                    writer.flush()
                    item.set()
            writer.close()
        except (Exception, SystemExit) as error:  # whatever a service has to say
            told = redacted(f"{type(error).__name__}: {error}")
            told = told if len(told) <= _LONGEST else f"{told[:_LONGEST]}..."
            self._warn(f"failed and gets no more numbers until the next start ({told})")
        finally:
            self._ended.set()

    def _warn(self, what: str) -> None:
        _log.warning("the logger %s %s; training goes on, and metrics.jsonl has all numbers", self._name, what)
