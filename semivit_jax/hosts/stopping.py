"""Note requests to stop (SIGTERM, Ctrl-C, a terminal that closes), so that the loop can save before it leaves."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

PREEMPTED, INTERRUPTED = 75, 130  # exit codes; launchers start a run again after 75
SAID_AT_ONCE = {
    signal.SIGTERM: "told to end (SIGTERM): stopping once this update is done and saved",
    signal.SIGHUP: "the terminal has closed (SIGHUP): stopping once this update is done and saved",
    signal.SIGINT: "stopping once this update is done and saved; Ctrl-C again leaves at once, without saving",
}
SAID_AGAIN = "leaving at once; the same command goes on from the last checkpoint"
LEAVING_SECONDS = 2.0  # for what can be closed in order


class Stopped(Exception):
    """The run was asked to stop and has saved its state; `exit_code` says by whom."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """exit_code is 0 until a signal came; a second Ctrl-C ends the process at once, without saving."""

    def __init__(self) -> None:
        self.exit_code = 0

    def _receive(self, signum: int, frame: object) -> None:
        if signum == signal.SIGINT and self.exit_code == INTERRUPTED:
            raise SystemExit(INTERRUPTED)
        self.exit_code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Listens for the signals while the block runs. Only the main thread may call it."""
    request = StopRequest()
    with _answering(), _handling(request._receive):
        yield request


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """The signals raise Stopped while the block runs, where there is nothing to save. `listening` may run inside."""

    def leave(signum: int, frame: object) -> None:
        code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED
        raise Stopped(code, "stopped outside of training, with nothing to save; start the same command again")

    with _handling(leave):
        yield


def leave_at_once(line: str) -> Callable[[int, object], None]:
    """A signal handler that says one line and ends the process, for where nothing has begun or all is done."""

    def leave(signum: int, frame: object) -> None:
        _say(line)
        os._exit(INTERRUPTED)

    return leave


@contextlib.contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    # Who starts a run with nohup wants it to outlive the terminal.
    heard = [s for s in SAID_AT_ONCE if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, handler) for s in heard}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Answers signals from a thread: Python's handlers wait while the main thread compiles or awaits a device."""
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    before = signal.set_wakeup_fd(sent)
    thread = threading.Thread(target=_answer, args=(received,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(sent)  # ends the thread
        thread.join()
        os.close(received)


def _answer(received: int) -> None:
    """Says what each signal, one byte, brings about; ends the process soon after a second Ctrl-C."""
    from semivit_jax.hosts import cluster  # costs seconds that `semivit --help` need not take

    last = 0
    while byte := os.read(received, 1):
        signum = byte[0]
        if signum == signal.SIGINT == last:
            _say(SAID_AGAIN)
            cluster.exit_within(LEAVING_SECONDS, exit_code=INTERRUPTED)
            return
        if signum in SAID_AT_ONCE and signum != last:
            _say(SAID_AT_ONCE[signal.Signals(signum)])
            last = signum


def _say(line: str) -> None:
    """Straight to stderr: a print could meet another one half done. Below a bar, where one is drawn."""
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        os.write(2, f"{chr(10) if os.isatty(2) else ''}semivit: {line}\n".encode())
