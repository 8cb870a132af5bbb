"""Keep what was done as lines of a file, each on the disk before it counts; one process at a time."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from semivit_jax.labeling.history import Entry


class JournalError(OSError):
    """A journal that another process writes, or that is damaged."""


class Journal:
    """The file of one table of labels.

    Attributes:
      file: it.
      entries: that were in it when it was opened.
      time: when it had been written then, in nanoseconds.
    """

    def __init__(self, file: Path):
        """Opens the journal, or begins one. A last line that was cut off never counted, and is removed.

        Raises:
          JournalError: another process has it open, or a line is none of ours.
        """
        self.file = file
        self._opened = open(file, "a+b", buffering=0)  # noqa: SIM115 - locked for as long as this process lives
        try:
            fcntl.flock(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._opened.close()
            raise JournalError(
                f"{file} is open already: another `semivit label` has these labels; use its page"
            ) from error
        self.time = os.fstat(self._opened.fileno()).st_mtime_ns
        self._opened.seek(0)
        content = self._opened.read()
        whole = content.rpartition(b"\n")[0] + b"\n" if b"\n" in content else b""
        if len(whole) < len(content):
            os.ftruncate(self._opened.fileno(), len(whole))
        self.entries = [self._entry(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def _entry(self, number: int, line: bytes) -> Entry:
        try:
            return Entry.from_json(line.decode())
        except ValueError as error:
            self._opened.close()
            raise JournalError(
                f"{self.file} line {number} is damaged ({error}); move the file away to begin anew"
            ) from error

    def add(self, entries: Sequence[Entry]) -> None:
        """Returns once the entries outlive the machine.

        Raises:
          OSError: they cannot be written, and not one of them is.
        """
        before = os.fstat(self._opened.fileno()).st_size
        rest = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
        try:
            while rest:
                rest = rest[self._opened.write(rest) :]
            os.fsync(self._opened.fileno())
        except OSError:
            os.ftruncate(self._opened.fileno(), before)
            raise

    def close(self) -> None:
        self._opened.close()


def beside(labels: Path) -> Path:
    """Where the journal of a table of labels is."""
    return labels.with_name(f"{labels.stem}.journal.jsonl")
