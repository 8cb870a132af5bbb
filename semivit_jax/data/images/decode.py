"""Decode image bytes to a uint8 RGB array; raise BadImage for all that cannot be shown.

The formats are those of `formats.py`; of several frames or pages the first counts. Pillow decides what is a readable
image; on the `fast` path simplejpeg decodes the ordinary JPEG files (both sit on libjpeg-turbo and give the same
pixels) and whatever it declines goes to Pillow, so that both paths accept the same files.
"""

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin, TiffTags

from semivit_jax.data.images import formats
from semivit_jax.data.images.types import ImagePath

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4
_TWELVE_BITS = 1 << 12
_WHITE_IS_ZERO = 0  # TIFF 6.0, section 3, PhotometricInterpretation

Tell = Callable[[str], None]
"""Takes what is odd about an image that is read all the same."""


def _nobody(remark: str) -> None:
    """Takes a remark that nobody wants."""


class BadImage(ValueError):
    """The bytes are no image that can be used; the message says why."""


class TooLarge(BadImage):
    """The image has more pixels than are accepted.

    Attributes:
      what: says so, up to the limit.
      max_pixels: the limit.
    """

    def __init__(self, what: str, max_pixels: int):
        super().__init__(f"{what} config.data.max_pixels = {max_pixels}")
        self.what, self.max_pixels = what, max_pixels


def decode(data: bytes, *, path: ImagePath, exif_rotation: bool, max_pixels: int, tell: Tell = _nobody) -> np.ndarray:
    """Decodes one image file.

    Grey, palette and CMYK images become RGB, alpha is dropped (the colour below it stays), 16-bit grey
    keeps its high byte as 16-bit colour does, and 12-bit grey the upper eight of its bits. A TIFF and a HEIC are
    turned as their format itself says, whatever `exif_rotation` is.

    Args:
      data: the whole file.
      path: `fast` decodes plain JPEG with simplejpeg, `pillow` never does.
      exif_rotation: turn the image as its EXIF orientation asks, the same way on both paths.
      max_pixels: largest accepted width * height, checked before any pixel is decoded. Pillow's own limit
        (`PIL.Image.MAX_IMAGE_PIXELS`), at twice of which it refuses, holds beside it.
      tell: gets what is odd about the image, such as EXIF that is cut off.

    Returns:
      uint8 [height, width, 3]; it may be read-only.

    Raises:
      BadImage: empty, truncated, damaged, too large, or not an image of these formats.
    """
    if not data:
        raise BadImage("empty file (0 bytes)")
    if path == "fast" and data.startswith(_JPEG_START):
        image = _decode_plain_jpeg(data, max_pixels=max_pixels)
        if image is not None:
            may_be_rotated = exif_rotation and (b"Exif\x00" in data or b"tiff:Orientation" in data)
            return _upright(image, _jpeg_orientation(data, tell)) if may_be_rotated else image
    return _decode_with_pillow(data, exif_rotation=exif_rotation, max_pixels=max_pixels, tell=tell)


def _decode_plain_jpeg(data: bytes, *, max_pixels: int) -> np.ndarray | None:
    """Decodes with simplejpeg; None for what it declines (CMYK, any damage), which Pillow then judges."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width=int(width), height=int(height), max_pixels=max_pixels)
        return None if colorspace == "CMYK" else simplejpeg.decode_jpeg(data, "RGB")
    except BadImage:
        raise
    except ValueError:
        return None


def _decode_with_pillow(data: bytes, *, exif_rotation: bool, max_pixels: int, tell: Tell) -> np.ndarray:
    # Decoders meet hostile bytes here and raise whatever their parsing trips over (OSError, SyntaxError,
    # struct.error, IndexError, ...). All of it means the same thing: this file is no usable image.
    try:
        with _warnings_told(tell):
            opened = Image.open(io.BytesIO(data), formats=_formats(data))
        with opened as image:
            _check_size(width=image.width, height=image.height, max_pixels=max_pixels)
            return from_pillow(image, exif_rotation=exif_rotation, tell=tell)
    except (BadImage, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage(
            f"not an image of a known format ({', '.join(formats.PILLOW)}): {len(data)} bytes, starting with "
            f"{data[: formats.HEAD_BYTES]!r}"
        ) from error
    except Image.DecompressionBombError as error:
        raise _over_pillows_limit(max_pixels) from error
    except Exception as error:
        # Pillow limits what texts and profiles may unpack to; the pixels are none the worse for them.
        if data.startswith(_PNG_START) and "MAX_TEXT" in str(error) and (plain := _without_texts(data)) != data:
            return _decode_with_pillow(plain, exif_rotation=exif_rotation, max_pixels=max_pixels, tell=tell)
        raise BadImage(f"damaged image: {type(error).__name__}: {error}") from error


def _formats(data: bytes) -> tuple[str, ...]:
    """What Pillow shall take these bytes for."""
    if not formats.may_be_heic(data):
        return formats.PILLOW
    if formats.heic_is_read():
        import pi_heif  # not needed where nobody has such photos

        pi_heif.register_heif_opener()
        return (*formats.PILLOW, "HEIF")
    if formats.is_surely_heic(data):
        raise BadImage(f"a HEIC photo: {formats.how_to_read_heic()}")
    return formats.PILLOW


def from_pillow(image: Image.Image, *, exif_rotation: bool, tell: Tell = _nobody) -> np.ndarray:
    """Pixels of an opened image as `decode` gives them, uint8 [height, width, 3]."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _read_tags(image, tell)
    pixels = np.asarray(_to_rgb(image, tell))
    return _upright(pixels, _orientation(image, tell) if exif_rotation else 1)


def _orientation(image: Image.Image, tell: Tell) -> int:
    with _warnings_told(tell):
        return image.getexif().get(_ORIENTATION_TAG, 1)


def _read_tags(image: TiffImagePlugin.TiffImageFile, tell: Tell) -> None:
    """Reads all that a TIFF says of itself, which loading does too, but warns of into the user's face."""
    with _warnings_told(tell):
        tags = image.getexif()
        for group in TiffTags.TAGS_V2_GROUPS:
            if group in tags:
                tags.get_ifd(group)


_warnings_lock = threading.Lock()  # what catches warnings does so for all threads


@contextlib.contextmanager
def _warnings_told(tell: Tell) -> Iterator[None]:
    """Tells what Pillow warns of in a photo, whatever Python is told to do with warnings.

    Only for what reads headers: one thread at a time does it.
    """
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for found in caught:
        if found.category is UserWarning and os.path.dirname(found.filename) == os.path.dirname(Image.__file__):
            tell(" ".join(str(found.message).split()))
        elif found.category is not Image.DecompressionBombWarning:  # `max_pixels` decides
            warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)


def _without_texts(png: bytes) -> bytes:
    """The file without texts and colour profile, which say nothing of its pixels."""
    kept, place = [_PNG_START], len(_PNG_START)
    while place + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        end = place + 12 + length  # length, kind, content, checksum
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


def _check_size(*, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLarge(f"image of {width} x {height} = {width * height} pixels is over", max_pixels)


def _over_pillows_limit(max_pixels: int) -> BadImage:
    """Which limit an image is over that Pillow refuses at sight of its header: the smaller one holds."""
    pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # up to there it only warns
    if max_pixels <= pillows:
        return TooLarge(f"image of more than {pillows} pixels is over", max_pixels)
    return BadImage(
        f"image of more than {pillows} pixels, the limit of Pillow, which config.data.max_pixels = {max_pixels} does "
        "not raise; make the image smaller"
    )


def _to_rgb(image: Image.Image, tell: Tell) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion would clip at 255
        image = Image.fromarray(_grey(image, tell))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # converted to RGB at once, Pillow warns about the lost transparency
    return image.convert("RGB")


def _grey(image: Image.Image, tell: Tell) -> np.ndarray:
    """Grey of more than eight bits as eight of them, uint8 [height, width]."""
    values, bits, white_is_zero = np.asarray(image).astype(np.int64), 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.mode in ("I", "F"):
            raise BadImage(
                "grey as signed, 32-bit or fractional numbers, of which nothing says what is white; save it with 8 or "
                "16 bits, from 0 for black"
            )
        bits = image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0]
        white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    if bits == 16 and not white_is_zero and 0 < values.max() < _TWELVE_BITS:
        tell(
            f"grey in 16 bits with no value above {values.max()}, as cameras with 12 bits write it: nearly black; "
            "multiply the values by 16"
        )
    grey = (np.clip(values, 0, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)
    return 255 - grey if white_is_zero else grey


def _jpeg_orientation(data: bytes, tell: Tell) -> int:
    try:
        with _warnings_told(tell):
            opened = Image.open(io.BytesIO(data), formats=("JPEG",))
        with opened as image:
            return _orientation(image, tell)
    except MemoryError:
        raise
    except Exception as error:  # as in _decode_with_pillow
        raise BadImage(f"damaged image: {type(error).__name__}: {error}") from error


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (1 to 8; unknown values leave the image alone)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
