"""Let what is printed never end the work: a terminal that was closed, a reader that has gone, a disk that is full."""

import errno
import io
import os
import sys
from typing import TextIO

_GONE = (errno.EPIPE, errno.EIO, errno.ENOSPC)  # no reader, no terminal, no room for the file it goes to


class _Lasting(io.RawIOBase):
    """Writes to a file descriptor; from the first time that it cannot, to nowhere."""

    def __init__(self, descriptor: int):
        self._descriptor, self._name = descriptor, {1: "stdout", 2: "stderr"}[descriptor]
        self._gone = False

    def write(self, data, /) -> int:
        if self._gone:
            return len(data)
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._gone = True
            if self._descriptor == 1:
                print(f"semivit: nothing more is printed to {self._name} ({error.strerror}); going on", file=sys.stderr)
            return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def outlast() -> None:
    """Makes stdout and stderr of this process outlast their readers, and take every sign that a name may hold."""
    for name, descriptor in (("stderr", 2), ("stdout", 1)):
        setattr(sys, name, _lasting(getattr(sys, name), descriptor))


def _lasting(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream like the present one; one that was closed before the start, which is None, takes everything silently."""
    try:
        os.fstat(descriptor)
    except OSError:  # or the next file that is opened would get what is printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    if stream is not None:
        stream.flush()
    encoding = stream.encoding if stream is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(descriptor)), encoding=encoding, errors="backslashreplace", line_buffering=True
    )
