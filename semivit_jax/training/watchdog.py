"""Say where a run waits when it has come no further for long, and keep the stacks of its threads.

It never ends the run: what takes long may still come to an end. Every process watches itself, since the one that is in
trouble and those that wait for it are told apart by what each of them waits for; the first one gathers their words.
"""

import contextlib
import faulthandler
import logging
import socket
import threading
import time
from collections.abc import Collection, Iterator

import jax

from semivit_jax import files
from semivit_jax.files import Path
from semivit_jax.training.goodput import PHASES, Book
from semivit_jax.words import counted

FOLDER = "hangs"
_LOOKS = 30  # at a process, in the time after which it hangs
_MOST_SECONDS = 20.0  # between two looks
_LOOKS_FOR_OTHERS = 2  # after its own hang, until the first host says what it knows of the others
_MOST_NAMES = 5
_STDERR = 2
_log = logging.getLogger(__name__)


class Watchdog:
    """Looks at this process now and then; see `watching`."""

    def __init__(self, book: Book, folder: Path, *, minutes: float, process: int, processes: int):
        """Args: folder, of the run; process of so many processes, which this one is."""
        self._book, self._folder, self._limit = book, folder / FOLDER, 60.0 * minutes
        self._process, self._processes = process, processes
        self._before = set(files.matching(self._folder, "*.txt"))  # of earlier starts
        self._since: float | None = None  # when the phase began that hangs
        self._looks = 0  # since that was said

    def look(self) -> None:
        """Says where this process hangs, the first time that it is seen, and when it goes on."""
        since, waited = self._book.since, self._book.waited()
        if self._since not in (None, since):
            _log.warning("%s goes on", self._who())
            self._since, self._before = None, set(files.matching(self._folder, "*.txt"))
        elif self._since is not None:
            self._looks += 1
            if self._looks == _LOOKS_FOR_OTHERS and self._process == 0 and self._processes > 1:
                self._tell_of_others()
        elif waited >= self._limit:
            self._since, self._looks = since, 0
            self._tell(waited)

    def _tell(self, waited: float) -> None:
        book = self._book
        place = f"{book.stage} after step {book.step}: " if book.stage else ""
        line = f"{self._who()}: {place}{PHASES[book.phase]}"
        file = self._folder / f"{time.strftime('%Y%m%dT%H%M%S')}_process_{self._process}.txt"
        # Before the file, which may be what cannot be written. A thread's word outlives a main thread that hangs.
        _log.warning("no step for %.0f min; %s. The run goes on; stacks of all threads: %s", waited / 60, line, file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with files.growing(file) as growing, open(growing, "w") as opened:
                opened.write(f"{line}\n\n")
                opened.flush()
                faulthandler.dump_traceback(opened, all_threads=True)
        except OSError as error:
            _log.warning("%s cannot be written (%s); the stacks follow here", file, error)
            faulthandler.dump_traceback(_STDERR, all_threads=True)

    def _tell_of_others(self) -> None:
        """What the other processes have said of this hang, those that wait for the same together."""
        waiting: dict[str, list[str]] = {}
        silent = {f"process {index}" for index in range(self._processes)}
        for file in set(files.matching(self._folder, "*.txt")) - self._before:
            who, _, what = file.read_text().partition("\n")[0].partition(": ")
            waiting.setdefault(what, []).append(who)
            silent.discard(who.partition(" (")[0])
        told = [f"{what}: {_joined(who)}" for what, who in sorted(waiting.items(), key=lambda item: len(item[1]))]
        if silent:
            told.append(f"no word of {_joined(silent)}, which may go on, or be gone")
        _log.warning("who waits for what: %s", "; ".join(told))

    def _who(self) -> str:
        return f"process {self._process} (host {socket.gethostname()})"


@contextlib.contextmanager
def watching(book: Book, folder: Path, *, minutes: float) -> Iterator[None]:
    """Watches this process while the block runs.

    Args:
      book: of its phases.
      folder: of the run; what is found goes to `hangs/` in it.
      minutes: without a step or another phase, after which it hangs; 0 watches nothing.
    """
    if not minutes:
        yield
        return
    watchdog = Watchdog(book, folder, minutes=minutes, process=jax.process_index(), processes=jax.process_count())
    ended, pause = threading.Event(), min(_MOST_SECONDS, 60.0 * minutes / _LOOKS)

    def watch() -> None:
        while not ended.wait(pause):
            try:
                watchdog.look()
            except OSError as error:
                _log.warning("what the other processes wait for cannot be read: %s", error)

    # Not waited for at the end: it may itself wait for the store that does not answer.
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _joined(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) if len(names) <= _MOST_NAMES else counted(len(names), "process", "processes")
