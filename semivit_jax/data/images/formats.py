"""Know the formats of photos: what their files are called, how they begin, and which extra reads them."""

import functools

from semivit_jax.hosts import extras

PILLOW = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # as Pillow names what it reads by itself
_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
HEIC_ENDINGS = (".heic", ".heif")
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HEAD_BYTES = 12  # up to the brand of a WebP, an AVIF or a HEIC
# Brands of ISO/IEC 23008-12, annex B, and of AVIF 1.1; the shared ones may hold either.
_AVIF_BRANDS, _SHARED_BRANDS = (b"avif", b"avis"), (b"mif1", b"msf1")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


@functools.cache
def heic_is_read() -> bool:
    """Whether what the extra 'heic' brings is installed."""
    return extras.installed("heic")


def endings() -> tuple[str, ...]:
    """Of the photos that are read here, in small letters."""
    return _ENDINGS + (HEIC_ENDINGS if heic_is_read() else ())


def unread_endings() -> tuple[str, ...]:
    """Of the photos that would be read with an extra."""
    return () if heic_is_read() else HEIC_ENDINGS


def is_known(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file are those of a photo."""
    if head.startswith(b"RIFF"):
        return head.endswith(b"WEBP")
    return head.startswith(_STARTS) or _brand(head) in (*_AVIF_BRANDS, *_SHARED_BRANDS, *_HEIC_BRANDS)


def may_be_heic(data: bytes) -> bool:
    """Whether the brand of a file is that of a HEIC, or one that HEIC and AVIF share."""
    return _brand(data) in (*_SHARED_BRANDS, *_HEIC_BRANDS)


def is_surely_heic(data: bytes) -> bool:
    """Whether the brand of a file is that of a HEIC alone."""
    return _brand(data) in _HEIC_BRANDS


def how_to_read_heic() -> str:
    """What to do for HEIC photos to take part."""
    return f"convert to JPEG or PNG, or install the extra heic: {extras.install_line('heic')}"


def _brand(data: bytes) -> bytes:
    """The major brand of an ISO base media file (ISO/IEC 14496-12, section 4.3); empty for other files."""
    return data[8:12] if data[4:8] == b"ftyp" else b""
