"""Make the pictures that a page shows: small ones, kept in the user's cache, and large ones.

No byte of a file is passed on: what is shown was decoded and is encoded anew, so that nothing but pixels leaves.
"""

import hashlib
import io
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from semivit_jax.data.images.decode import BadImage, decode

SIDES: Mapping[str, int] = {"small": 224, "large": 1600}  # pixels of the longer side, at most
_KEPT = "small"
_CHEAP_BYTES = 65_536  # of a file; a smaller one is decoded as quickly as a kept picture is found
_MAX_PIXELS = 90_000_000  # of an image that is shown, as of one that the recipes train on
_QUALITY = {"small": 82, "large": 90}  # of JPEG
_EXACT_SIDE = 128  # pixels up to which a picture is sent as PNG, so that each is seen as it is

_log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """An image as a browser takes it."""

    content: bytes
    media_type: str


class Pictures:
    """Of the images of a folder; several threads may ask."""

    def __init__(self, root: Path, names: Sequence[str], *, cache: Path, links: bool):
        """Args:
        root: folder of the images.
        names: of them; nothing else is read.
        cache: folder for small pictures.
        links: whether images are shown to which a link leads out of the folder.
        """
        self._root, self._names, self._links = root, names, links
        self._real_root = os.path.realpath(root)
        self._cache = cache / hashlib.sha256(os.fsencode(self._real_root)).hexdigest()[:16]
        self._is_kept = True
        self._locks = [threading.Lock() for _ in range(64)]  # two threads must not write one file

    def get(self, place: int, size: str) -> Picture:
        """The picture of an image.

        Args:
          place: of the image.
          size: a row of SIDES.

        Raises:
          BadImage: the image cannot be shown; says why.
        """
        path = os.path.join(self._root, self._names[place])
        try:
            real = os.path.realpath(path)
            if not self._links and os.path.commonpath([real, self._real_root]) != self._real_root:
                raise BadImage("a link that leads out of the folder; --links=yes shows such images")
            status = os.stat(real)
            if size != _KEPT or status.st_size <= _CHEAP_BYTES:
                return _encoded(_read(real), size)
            state = f"{self._names[place]!r} {status.st_size} {status.st_mtime_ns} {SIDES[size]}"
            name = hashlib.sha256(state.encode()).hexdigest()
            with self._locks[int(name[:8], 16) % len(self._locks)]:
                return self._kept(self._cache / name[:2] / f"{name}.jpg", real, size)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror or error}") from error

    def _kept(self, file: Path, real: str, size: str) -> Picture:
        """The picture of a file of the cache, which is made where it is not there."""
        if file.is_file() and (content := file.read_bytes()):
            return Picture(content, "image/jpeg")
        picture = _encoded(_read(real), size)
        if self._is_kept and picture.media_type == "image/jpeg":
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(f".{os.getpid()}")
                temporary.write_bytes(picture.content)  # one that a crash leaves empty is made again
                os.replace(temporary, file)
            except OSError as error:
                self._is_kept = False
                _log.warning("small pictures are not kept, %s cannot be written: %s", file.parent, error.strerror)
        return picture


def _read(path: str) -> bytes:
    with open(path, "rb") as opened:
        return opened.read()


def _encoded(content: bytes, size: str) -> Picture:
    image = Image.fromarray(decode(content, path="fast", exif_rotation=True, max_pixels=_MAX_PIXELS))
    image.thumbnail((SIDES[size], SIDES[size]), Image.Resampling.BOX if size == "small" else Image.Resampling.BICUBIC,
                    reducing_gap=2.0)  # fmt: skip
    encoded = io.BytesIO()
    if max(image.size) <= _EXACT_SIDE:
        image.save(encoded, "PNG", compress_level=1)
        return Picture(encoded.getvalue(), "image/png")
    image.save(encoded, "JPEG", quality=_QUALITY[size])
    return Picture(encoded.getvalue(), "image/jpeg")
