"""Write files that grow: lines of metrics, and what other programs add to."""

import os
from collections.abc import Callable, Sequence

from semivit_jax.files import address, mirror
from semivit_jax.files.places import Path
from semivit_jax.files.whole import named, writing


class GrowingFolder:
    """A folder for files that grow.

    Attributes:
      local: where they are written. Those for a bucket are brought there whole, every half minute and when flushed.
    """

    def __init__(self, folder: Path):
        self._mirror = mirror.Mirror(os.fspath(folder)) if address.is_bucket(folder) else None
        self.local = folder if self._mirror is None else Path(self._mirror.local)

    def flush(self) -> None:
        """Returns once what is in the files is in the bucket, if they are for one."""
        if self._mirror is not None:
            self._mirror.flush()

    def close(self) -> None:
        if self._mirror is not None:
            self._mirror.close()


class Lines:
    """A file of lines that grows."""

    def __init__(self, file: Path, keep: Callable[[Sequence[str]], Sequence[str]]):
        """Args: keep, says which lines of an earlier start stay; the last of them may be cut off."""
        self._grown = GrowingFolder(file.parent)
        self._path = self._grown.local / file.name
        if file.exists():
            old = file.read_bytes().decode(errors="backslashreplace").splitlines()
            with writing(self._path) as opened:
                opened.write("".join(f"{line}\n" for line in keep(old)).encode())
        # Unbuffered: what a full disk refuses must not come up again, nameless, when the file is closed.
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the lines are added

    def add(self, line: str) -> None:
        """Writes one line, which has no line break."""
        rest = f"{line}\n".encode()
        with named(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Returns once what was added outlives the machine."""
        with named(self._path):
            os.fsync(self._file.fileno())
        self._grown.flush()

    def close(self) -> None:
        self._file.close()
        self._grown.close()
