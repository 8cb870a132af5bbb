"""Requests to stop from outside: SIGTERM (preemption) and Ctrl-C. The loop saves first, then leaves."""

import contextlib
import signal
from collections.abc import Callable, Iterator

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
    with _handling(request._receive):
        yield request


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Both signals raise Stopped while the block runs, where there is nothing to save. `listening` may run inside."""

    def leave(signum: int, frame: object) -> None:
        code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED
        raise Stopped(code, "stopped outside of training, with nothing to save; start the same command again")

    with _handling(leave):
        yield


@contextlib.contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {s: signal.signal(s, handler) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
