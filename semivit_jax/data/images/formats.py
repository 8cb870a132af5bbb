"""Know the formats of photos: what their files are called, how they begin, and which extra reads them."""

import functools

from semivit_jax.hosts import extras

PILLOW = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # as Pillow names what it reads by itself
_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
HEIC_ENDINGS = (".heic", ".heif")
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HEAD_BYTES = 12  # up to the brand of a WebP, an AVIF or a HEIC
# Brands of ISO/IEC 23008-12, annex B, and of AVIF 1.1, behind the word ftyp; the shared ones may hold either.
AVIF_BRANDS, SHARED_BRANDS = (b"avif", b"avis"), (b"mif1", b"msf1")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


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


def how_to_read_heic() -> str:
    """What to do for HEIC photos to take part."""
    return f"convert to JPEG or PNG, or install the extra heic: {extras.install_line('heic')}"
