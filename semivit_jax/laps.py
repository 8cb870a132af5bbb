"""Where the time of a start goes: consecutive parts, timed one after the other."""

import time


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
