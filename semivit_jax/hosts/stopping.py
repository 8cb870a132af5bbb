"""Answer requests to stop (SIGTERM, Ctrl-C, a terminal that closes), and leave no half-written output behind.

Python's own handlers wait while the main thread compiles, reads or imports, and what they raise is lost there or turns
into another error. So a thread answers, and ends the process where the main thread does not come back.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

PREEMPTED, INTERRUPTED = 75, 130  # exit codes; launchers start a run again after 75
SAID_AT_ONCE = {
    signal.SIGTERM: "told to end (SIGTERM): stopping once this update is done and saved",
    signal.SIGHUP: "the terminal has closed (SIGHUP): stopping once this update is done and saved",
    signal.SIGINT: "stopping once this update is done and saved; Ctrl-C again leaves at once, without saving",
}
SAID_AGAIN = "leaving at once; the same command goes on from the last checkpoint"
LEAVING_SECONDS = 2.0  # for what can be closed in order
GOODBYE_SECONDS = 10.0  # for processes that leave with the same error to do so together
_NOTHING_TO_SAVE = "stopped outside of training, with nothing to save; start the same command again"
_SHOW_CURSOR = b"\x1b[?25h"  # a bar hides it
_undo: list[Callable[[], None]] = []  # removes what is half-written now
_left_behind = threading.Event()


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
            signal.signal(signal.SIGINT, _leave_to_thread)
            raise SystemExit(INTERRUPTED)
        self.exit_code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Listens for the signals while the block runs. Only the main thread may call it."""
    request = StopRequest()
    with _heard_by(_save_and_leave), _handling(request._receive):
        yield request


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """The signals raise Stopped while the block runs, where there is nothing to save. `listening` may run inside."""

    is_leaving = False

    def leave(signum: int, frame: FrameType | None) -> None:
        nonlocal is_leaving
        code = INTERRUPTED if signum == signal.SIGINT else PREEMPTED
        if is_leaving or _is_importing(frame):
            _say(_NOTHING_TO_SAVE)
            end(code)
        is_leaving = True
        raise Stopped(code, _NOTHING_TO_SAVE)

    with _handling(leave):
        yield


@contextlib.contextmanager
def answering(name: str) -> Iterator[None]:
    """Answers Ctrl-C while a command runs: a line at once, then KeyboardInterrupt, and the end within seconds.

    In the midst of an import the process ends at once: an extension module would make another error of the exception.
    One that is lost, in a callback that returns nothing, leaves no traceback: the process ends all the same.
    """

    said = threading.Event()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            said.wait(LEAVING_SECONDS)
            end(INTERRUPTED)
        signal.signal(signal.SIGINT, _leave_to_thread)
        raise KeyboardInterrupt

    with _heard_by(lambda received: _leave_soon(received, f"stopping {name}", said)):
        before, hook = signal.signal(signal.SIGINT, interrupt), sys.unraisablehook
        sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else hook(lost)
        try:
            yield
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, before)


def leave_at_once(line: str) -> Callable[[int, object], None]:
    """A signal handler that says one line and ends the process, for where nothing has begun or all is done."""

    def leave(signum: int, frame: object) -> None:
        _say(line)
        end(INTERRUPTED)

    return leave


@contextlib.contextmanager
def undone_unless_whole(undo: Callable[[], None]) -> Iterator[None]:
    """Writes an output in the block; `undo` removes it where the block fails or the process is ended in its midst."""
    _undo.append(undo)
    try:
        yield
    except BaseException:
        undo()
        raise
    finally:
        _undo.remove(undo)


@contextlib.contextmanager
def left_to_parent() -> Iterator[None]:
    """Processes and threads that the block starts do not hear Ctrl-C and the end of a terminal, which come to all.

    The process that started them needs them until it has saved, and ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_within(seconds: float, *, exit_code: int) -> threading.Timer:
    """Gives this process `seconds` to end by itself; then ends it, whatever it still waits for."""
    timer = threading.Timer(seconds, end, args=(exit_code,))
    timer.daemon = True  # must not itself keep the process
    timer.start()
    return timer


def wait_for_nobody() -> None:
    """Lets the process end without threads that were left behind, and what their libraries do at its end."""
    _left_behind.set()


def waits_for_nobody() -> bool:
    """Whether threads were left behind."""
    return _left_behind.is_set()


def end(exit_code: int) -> NoReturn:
    """Ends the process at once, with its workers and without what it has half written."""
    for undo in reversed(_undo.copy()):  # the main thread may undo at the same time
        with contextlib.suppress(OSError):
            undo()
    for worker in multiprocessing.active_children():
        worker.kill()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, _SHOW_CURSOR)
    os._exit(exit_code)


def _leave_to_thread(signum: int, frame: object) -> None:
    """Hears a signal that the thread answers: a second error would break off what removes half-written files."""


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # Who starts a run with nohup wants it to outlive the terminal.
    heard = [s for s in SAID_AT_ONCE if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, handler) for s in heard}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def _heard_by(answer: Callable[[int], None]) -> Iterator[None]:
    """Runs `answer` in a thread, with a file descriptor that gives each signal as one byte until the block ends."""
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    before = signal.set_wakeup_fd(sent)
    thread = threading.Thread(target=answer, args=(received,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(sent)  # ends the thread
        thread.join()
        os.close(received)


def _save_and_leave(received: int) -> None:
    """Says what each signal brings about; ends the process soon after a second Ctrl-C."""
    last = 0
    while byte := os.read(received, 1):
        signum = byte[0]
        if signum == signal.SIGINT == last:
            _say(SAID_AGAIN)
            end_within(LEAVING_SECONDS, exit_code=INTERRUPTED)
            return
        if signum in SAID_AT_ONCE and signum != last:
            _say(SAID_AT_ONCE[signal.Signals(signum)])
            last = signum


def _leave_soon(received: int, line: str, said: threading.Event) -> None:
    """Says the line at a Ctrl-C and sets `said`; ends the process if that takes seconds, at once at a second one."""
    leaving = None
    while byte := os.read(received, 1):
        if byte[0] != signal.SIGINT:
            continue
        if leaving is not None:
            end(INTERRUPTED)
        _say(line)
        said.set()
        leaving = end_within(LEAVING_SECONDS, exit_code=INTERRUPTED)
    if leaving is not None:
        leaving.cancel()


def _say(line: str) -> None:
    """Straight to stderr: a print could meet another one half done. Below a bar, where one is drawn."""
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        os.write(2, f"{chr(10) if os.isatty(2) else ''}semivit: {line}\n".encode())
