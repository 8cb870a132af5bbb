"""Requests to stop from outside: SIGTERM (preemption) and Ctrl-C. The loop saves first, then leaves."""

import contextlib
import signal
from collections.abc import Iterator

PREEMPTED, INTERRUPTED = 75, 130  # exit codes; launchers start a run again after 75


class Stopped(Exception):
    """The run was asked to stop and has saved its state; `exit_code` says by whom."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """exit_code is 0 until a signal came; a second Ctrl-C interrupts at once, without saving."""

    def __init__(self) -> None:
        self.exit_code = 0

    def _receive(self, signum: int, frame: object) -> None:
        if signum == signal.SIGINT and self.exit_code == INTERRUPTED:
            raise KeyboardInterrupt
        self.exit_code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Listens for both signals while the block runs. Only the main thread may call it."""
    request = StopRequest()
    before = {s: signal.signal(s, request._receive) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
