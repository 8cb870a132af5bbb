"""Time a stage: the rates of one log line, and where the seconds of a start go."""

import contextlib
import time
from collections.abc import Iterator

from semivit_jax.training.goodput import Book


class Pace:
    """Times the loop. Rates are those of training alone: compilation and evaluation are left out, saving is not."""

    def __init__(self, images_per_update: int, book: Book):
        self._images_per_update, self._book = images_per_update, book
        self.restart()

    def restart(self) -> None:
        """Begins a new line; also where the first step has just been compiled."""
        self._seconds = {"waiting": 0.0, "saving": 0.0, "evaluating": 0.0}
        self._started, self._updates = time.monotonic(), 0

    @contextlib.contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Adds its block's time to `waiting` (for a batch), `saving` (what it kept the loop) or `evaluating`.

        They are phases of the run's book too.
        """
        started = time.monotonic()
        with self._book.during(what):
            yield
        self._seconds[what] += time.monotonic() - started

    def count_update(self) -> None:
        self._updates += 1

    def values(self) -> dict[str, float]:
        """The `perf/` numbers of the line; a line has at least one update."""
        elapsed = time.monotonic() - self._started - self._seconds["evaluating"]
        return {
            "perf/images_per_sec": self._updates * self._images_per_update / elapsed,
            "perf/step_seconds": elapsed / self._updates,
            "perf/input_wait_frac": min(1.0, self._seconds["waiting"] / elapsed),
            "perf/save_seconds": self._seconds["saving"],
        }


class Laps:
    """Seconds of consecutive parts."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Ends a part: the time since the part before, or since the beginning."""
        now = time.monotonic()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        """All parts and their sum, e.g. "3.5 s: restore 1.2, compile 2.3"."""
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self._seconds.items())
        return f"{sum(self._seconds.values()):.1f} s: {parts}"
