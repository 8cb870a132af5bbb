"""Decoding: every kind of image gives RGB, everything else one exception that says why."""

import dataclasses
import io
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from semivit_jax.data import rows
from semivit_jax.data.images import formats
from semivit_jax.data.images.decode import BadImage, decode
from semivit_jax.data.images.remarks import Remarks
from semivit_jax.data.sources.image_set import ImageSet
from tests.configs import small_config

PATHS = ["pillow", "fast"]
PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)
HEIGHT, WIDTH = PHOTO.shape[:2]
ORIENTATION = 0x0112


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(mode="RGB"):
    return Image.fromarray(PHOTO).convert(mode)


def read(data, path, *, exif_rotation=False, max_pixels=10**6):
    return decode(data, path=path, exif_rotation=exif_rotation, max_pixels=max_pixels)


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def transparent_palette():
    picture = photo("P")
    picture.info["transparency"] = bytes(range(256))
    return picture


GOOD = {
    "jpeg": encoded(photo(), "JPEG"),
    "jpeg progressive 4:2:0": encoded(photo(), "JPEG", progressive=True, subsampling=2),
    "jpeg 4:4:4": encoded(photo(), "JPEG", subsampling=0, quality=95),
    "jpeg grey": encoded(photo("L"), "JPEG"),
    "jpeg cmyk": encoded(photo("CMYK"), "JPEG"),
    "png": encoded(photo(), "PNG"),
    "png grey": encoded(photo("L"), "PNG"),
    "png grey with alpha": encoded(photo("LA"), "PNG"),
    "png with alpha": encoded(photo("RGBA"), "PNG"),
    "png palette": encoded(photo("P"), "PNG"),
    "png palette with transparency": encoded(transparent_palette(), "PNG", transparency=bytes(range(256))),
    "png one bit": encoded(photo("1"), "PNG"),
    "webp": encoded(photo(), "WEBP", lossless=True),
    "webp with alpha": encoded(photo("RGBA"), "WEBP", lossless=True),
    "gif": encoded(photo("P"), "GIF"),
    "bmp": encoded(photo(), "BMP"),
    "tiff": encoded(photo(), "TIFF"),
    "tiff lzw": encoded(photo(), "TIFF", compression="tiff_lzw"),
    "tiff cmyk": encoded(photo("CMYK"), "TIFF"),
    "tiff one bit": encoded(photo("1"), "TIFF", compression="group4"),
    "tiff with alpha": encoded(photo("RGBA"), "TIFF"),
    "avif": encoded(photo(), "AVIF"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_image_becomes_rgb(kind, path):
    image = read(GOOD[kind], path)
    assert image.dtype == np.uint8
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.flags.c_contiguous
    with Image.open(io.BytesIO(GOOD[kind])) as picture:
        np.testing.assert_array_equal(image, np.asarray(picture.convert("RGBA").convert("RGB")))


@pytest.mark.parametrize("kind", ["png", "png with alpha", "webp", "webp with alpha", "bmp", "tiff"])
def test_lossless_images_keep_their_pixels_and_lose_only_alpha(kind):
    np.testing.assert_array_equal(read(GOOD[kind], "fast"), PHOTO)


@pytest.mark.parametrize("path", PATHS)
def test_transparent_pixels_keep_their_colour(path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., :3] = (10, 20, 30)  # alpha 0 everywhere
    data = encoded(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(read(data, path), np.full((4, 4, 3), (10, 20, 30)))


@pytest.mark.parametrize("path", PATHS)
def test_16_bit_grey_is_scaled_not_clipped(path):
    levels = np.array([[0, 255, 256, 32768, 65280, 65535]], np.uint16)
    image = read(encoded(Image.fromarray(levels), "PNG"), path)
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 1, 128, 255, 255])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("path", PATHS)
def test_of_an_animation_the_first_frame_counts(path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    timed = {"duration": 10}
    for kind, options in (("GIF", timed), ("WEBP", timed | {"lossless": True}), ("TIFF", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read(data, path), np.full((4, 5, 3), (255, 0, 0)))


def deep_tiff(values, **tags):
    """A TIFF of 16-bit grey with tags of one's own (TIFF 6.0, part 1)."""
    numbers = {"bits": 258, "photometric": 262}
    return encoded(Image.fromarray(values), "TIFF", tiffinfo={numbers[tag]: value for tag, value in tags.items()})


def test_deep_grey_of_a_tiff_is_read_as_it_declares():
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    found = {name: read(deep_tiff(levels, **tags), "fast")[0, :, 0] for name, tags in
             {"plain": {}, "white is zero": {"photometric": 0}}.items()}  # fmt: skip
    np.testing.assert_array_equal(found["plain"], [0, 0, 1, 128, 255])
    np.testing.assert_array_equal(found["white is zero"], [255, 255, 254, 127, 0])


def test_twelve_bits_of_a_tiff_are_the_upper_eight():
    """Two values of 12 bits lie in three bytes."""
    data = deep_tiff(np.array([[0x0AB, 0xCDE, 0xF00, 0x0F0]], np.uint16))
    packed = bytes([0x0A, 0xBC, 0xDE, 0xF0, 0x00, 0xF0])
    start = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    twelve = bytearray(data[:start] + packed + data[start + 8 :])
    twelve[twelve.index(struct.pack("<HHIH", 258, 3, 1, 16)) + 8] = 12
    counts = twelve.index(struct.pack("<HHII", 279, 4, 1, 8)) + 8
    twelve[counts : counts + 4] = struct.pack("<I", 6)
    np.testing.assert_array_equal(read(bytes(twelve), "fast")[0, :, 0], [0x0A, 0xCD, 0xF0, 0x0F])


@pytest.mark.parametrize("values", [np.float32([[0.0, 1.0]]), np.int32([[0, 1 << 20]])])
def test_numbers_that_do_not_say_what_is_white_are_refused(values):
    with pytest.raises(BadImage, match="nothing says what is white; save it with 8 or 16 bits"):
        read(encoded(Image.fromarray(values), "TIFF"), "fast")


@pytest.mark.parametrize("exif_rotation", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_part_of_its_format(orientation, exif_rotation):
    data = encoded(photo(), "TIFF", tiffinfo={ORIENTATION: orientation})
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(photo(), "PNG", exif=exif(orientation)))))
    np.testing.assert_array_equal(read(data, "fast", exif_rotation=exif_rotation), np.asarray(upright))


HEIC = (Path(__file__).parents[1] / "fixtures" / "photo.heic").read_bytes()  # written by pillow-heif 1.4, quality 80


def test_a_heic_photo():
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8))
    photo = np.asarray(coarse.resize((60, 44), Image.Resampling.BICUBIC)).astype(int)
    assert abs(read(HEIC, "fast").astype(int) - photo).mean() < 4


def test_without_its_extra_a_heic_photo_names_it(monkeypatch):
    monkeypatch.setattr(formats, "heic_is_read", lambda: False)
    with pytest.raises(BadImage, match=r"a HEIC photo: convert to JPEG or PNG, or install the extra heic: .*pip"):
        read(HEIC, "fast")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_rotation_is_applied_on_request(kind, orientation, path):
    data = encoded(photo(), kind, exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    np.testing.assert_array_equal(read(data, path, exif_rotation=True), upright)
    assert read(data, path).shape == PHOTO.shape


@pytest.mark.parametrize("path", PATHS)
def test_an_orientation_written_as_xmp_counts_too(path):
    data = encoded(photo(), "JPEG", xmp=b'<rdf:Description tiff:Orientation="6"/>')
    np.testing.assert_array_equal(read(data, path, exif_rotation=True), np.rot90(read(data, path), -1))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_exif_orientation_leaves_the_image_alone(orientation, path):
    data = encoded(photo(), "JPEG", exif=exif(orientation))
    np.testing.assert_array_equal(read(data, path, exif_rotation=True), read(data, path))


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_file(path):
    with pytest.raises(BadImage, match="empty file"):
        read(b"", path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "data",
    [b"hello, I am a text file named photo.jpg", b"\x00" * 500, b"%PDF-1.7\n", b"<svg></svg>", b"PK\x03\x04"],
)
def test_bytes_that_are_no_image(data, path):
    with pytest.raises(BadImage, match="not an image of a known format"):
        read(data, path)


@pytest.mark.parametrize("path", PATHS)
def test_a_jpeg_start_without_a_jpeg(path):
    with pytest.raises(BadImage):
        read(b"\xff\xd8\xff" + b"nothing that follows", path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["jpeg", "jpeg progressive 4:2:0", "png", "webp", "gif", "bmp", "tiff", "avif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_truncated_files(kind, share, path):
    data = GOOD[kind][: int(share * len(GOOD[kind]))]
    with pytest.raises(BadImage):
        read(data, path)


@pytest.mark.parametrize("path", PATHS)
def test_formats_that_can_run_other_programs_are_not_opened(path):
    with pytest.raises(BadImage, match="not an image of a known format"):
        read(encoded(photo(), "EPS"), path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_too_many_pixels_are_refused_with_the_size_and_the_limit(kind, path):
    with pytest.raises(BadImage, match=rf"{WIDTH} x {HEIGHT} = {WIDTH * HEIGHT} .* over config.data.max_pixels = 1000"):
        read(GOOD[kind], path, max_pixels=1000)
    assert read(GOOD[kind], path, max_pixels=WIDTH * HEIGHT).shape == PHOTO.shape


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.filterwarnings("ignore")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(path):
    bomb = encoded(Image.new("1", (14_000, 14_000)), "PNG")
    assert len(bomb) < 200_000
    start = time.perf_counter()
    with pytest.raises(BadImage, match=r"over config.data.max_pixels = 10000000$"):
        read(bomb, path, max_pixels=10**7)
    assert time.perf_counter() - start < 1
    # Pillow, which looks first, refuses twice what it calls its limit.
    with pytest.raises(BadImage, match=rf"more than {2 * Image.MAX_IMAGE_PIXELS} pixels, the limit of Pillow, which"):
        read(bomb, path, max_pixels=10**9)


def test_a_bad_image_is_a_value_error_with_its_cause():
    with pytest.raises(ValueError, match="damaged image") as caught:
        read(GOOD["png"][:-40], "pillow")
    assert caught.value.__cause__ is not None


# --- odd, and read all the same

CUT_OFF_EXIF = exif(6)[:-6]


def told_of(data, path):
    remarks = []
    image = decode(data, path=path, exif_rotation=True, max_pixels=10**6, tell=remarks.append)
    return image, remarks


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("action", ["error", "ignore", "default"])
def test_what_python_does_with_warnings_changes_no_photo(kind, action, path):
    """Tests make errors of warnings, as PYTHONWARNINGS=error does."""
    with warnings.catch_warnings(action="ignore"):  # Pillow's writer of AVIF reads it too
        data = encoded(photo(), kind, exif=CUT_OFF_EXIF)
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter(action)
        image, remarks = told_of(data, path)
    assert image.shape == PHOTO.shape
    assert not printed
    assert remarks
    assert all("EXIF" in remark and "\n" not in remark for remark in remarks)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_photo_that_pillow_warns_of_for_its_size_is_read(action, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        image, remarks = told_of(GOOD["png"], "pillow")
    assert image.shape == PHOTO.shape
    assert not remarks


def test_threads_hear_of_their_own_photos(monkeypatch):
    """Python catches warnings of all threads at once; opening is slowed down here, so that threads meet in it."""
    opening = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: time.sleep(0.001) or opening(*args, **kwargs))
    odd = encoded(photo(), "JPEG", exif=CUT_OFF_EXIF)
    photos = [odd, GOOD["jpeg"], encoded(photo(), "JPEG", exif=exif(6))] * 10
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda data: told_of(data, "fast")[1], photos))
    assert [bool(remarks) for remarks in found] == [True, False, False] * 10


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


LARGE = zlib.compress(bytes(5 * 2**20))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"iCCP", b"icc\0\0" + LARGE)],
        [chunk(b"zTXt", b"a\0\0" + LARGE)],
        [chunk(b"iTXt", b"a\0\1\0\0\0" + LARGE)],
        [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1)))] * 65,
    ],
)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_png_with_large_texts_and_profiles(chunks, at_the_end):
    """Of scanners and editors; Pillow refuses to unpack them."""
    place = GOOD["png"].index(b"IEND") - 4 if at_the_end else 33  # after the header
    data = GOOD["png"][:place] + b"".join(chunks) + GOOD["png"][place:]
    np.testing.assert_array_equal(read(data, "pillow", exif_rotation=True), PHOTO)


@pytest.mark.parametrize(("top", "told"), [(4095, True), (4096, False), (65535, False), (0, False)])
def test_grey_of_12_bits_in_16_is_told(top, told):
    levels = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    _, remarks = told_of(encoded(Image.fromarray(levels), "PNG"), "fast")
    assert [line.startswith("grey in 16 bits with no value above 4095, as") for line in remarks] == [True] * told


def test_a_remark_is_told_once_and_few_photos_are_named(caplog):
    remark_on = Remarks()
    for name in [*"aab", *map(str, range(100))]:
        remark_on(name, "odd")
    lines = [r.getMessage() for r in caplog.records]
    assert lines[:3] == ["'a': odd", "'b': odd", "'0': odd"]
    assert len(lines) == Remarks.MOST_PHOTOS + 1
    assert lines[-1] == "more photos with such faults are not named"


def test_the_photo_is_named_where_it_is_read(caplog, monkeypatch):
    monkeypatch.setattr(rows, "remark_on", Remarks())
    images = ImageSet([encoded(photo(), "JPEG", exif=CUT_OFF_EXIF)], ["cat/0.jpg"], np.zeros(1, np.int32))
    data = dataclasses.replace(small_config().data, exif_rotation=True, max_pixels=10**6)
    assert isinstance(rows.read_image(images, 0, data, path="fast"), np.ndarray)
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == ["'cat/0.jpg'"]


# --- mutated bytes


def mutated(data, generator):
    """`data` with one to four random changes: bytes, runs of bytes, lengths, the end cut off."""
    changed = bytearray(data)
    for _ in range(generator.integers(1, 5)):
        at = int(generator.integers(len(changed)))
        length = int(generator.integers(1, 20))
        match generator.integers(6):
            case 0:
                changed[at] ^= 1 << int(generator.integers(8))
            case 1:
                changed[at : at + length] = generator.bytes(len(changed[at : at + length]))
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = generator.bytes(length)
            case 4:
                changed[at : at + length] = bytes([int(generator.choice([0, 1, 127, 128, 255]))]) * length
            case 5:
                del changed[max(16, at) :]
        if not changed:
            break
    return bytes(changed)


def outcome(data, path):
    """The image, or None for a bad one; anything else is an error, and so is a decoder that hangs."""
    start = time.perf_counter()
    try:
        image = read(data, path, exif_rotation=True)
    except BadImage:
        return None
    finally:
        assert time.perf_counter() - start < 5
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return image


def fuzz(kinds, count, seed):
    """Mutates good files; both paths must accept the same ones and see the same pixels in them."""
    generator = np.random.default_rng(seed)
    accepted = 0
    for index in range(count):
        data = mutated(GOOD_WITH_EXIF[kinds[index % len(kinds)]], generator)
        pillow, fast = outcome(data, "pillow"), outcome(data, "fast")
        assert (pillow is None) == (fast is None), data.hex()
        if pillow is not None:
            np.testing.assert_array_equal(fast, pillow, err_msg=data.hex())
            accepted += 1
    assert 0 < accepted < count  # neither harmless nor hopeless changes alone


GOOD_WITH_EXIF = GOOD | {"jpeg rotated": encoded(photo(), "JPEG", exif=exif(6))}
JPEGS = [kind for kind in GOOD_WITH_EXIF if kind.startswith("jpeg")]
PNGS = [kind for kind in GOOD_WITH_EXIF if kind.startswith("png")]
OTHERS = [kind for kind in GOOD_WITH_EXIF if kind not in JPEGS + PNGS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kinds", [JPEGS, PNGS, OTHERS], ids=["jpeg", "png", "others"])
def test_mutated_files_are_images_or_bad_images(kinds):
    fuzz(kinds, count=300, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kinds", [JPEGS, PNGS, OTHERS], ids=["jpeg", "png", "others"])
def test_many_mutated_files_are_images_or_bad_images(kinds):
    fuzz(kinds, count=12_000, seed=1)
