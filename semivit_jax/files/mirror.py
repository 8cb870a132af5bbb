"""Bring files that grow on this machine into a bucket, whole and now and then, from a thread."""

import logging
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from semivit_jax.files import store

EVERY_SECONDS = 30.0  # a line waits for no longer than this, and one upload
BETWEEN_SECONDS = 1.0  # a store takes one write a second of an object
_log = logging.getLogger(__name__)


class Mirror:
    """A folder of this machine whose files become objects of a folder in a bucket; it goes when this is closed.

    What was written for the last half minute is lost with the process, unless it was flushed.
    """

    def __init__(self, address: str):
        self.local = Path(tempfile.mkdtemp(prefix="semivit_growing_"))
        self._address = address
        self._kept: dict[str, int] = {}  # bytes of each file that are in the bucket
        self._began = 0.0
        self._uploading, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Returns once the bucket holds what is in the files now.

        Raises:
          OSError: it does not take them.
        """
        with self._uploading:
            for file in sorted(self.local.iterdir()):
                if file.stat().st_size != self._kept.get(file.name):
                    self._upload(file)

    def close(self) -> None:
        """Brings what is left; where the bucket does not take it, that is said."""
        self._ended.set()
        self._thread.join()
        self._try()
        shutil.rmtree(self.local)

    def _go(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._try()

    def _try(self) -> None:
        try:
            self.flush()
        except OSError as error:
            _log.warning("the newest lines are not in the bucket: %s", error)

    def _upload(self, file: Path) -> None:
        time.sleep(max(0.0, self._began + BETWEEN_SECONDS - time.monotonic()))
        self._began = time.monotonic()
        with open(file, "rb") as opened:
            content = opened.read()  # what is added meanwhile comes with the next one
        store.write(f"{self._address}/{os.fspath(file.name)}", content)
        self._kept[file.name] = len(content)
