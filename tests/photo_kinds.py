"""Small photos of every kind that people have, made by Pillow, and how docs/using.md opens them for exports."""

import pathlib

import numpy as np
import PIL.Image
import PIL.ImageOps

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "using.md"
ORIENTATION = 0x0112  # EXIF 2.3, section 4.6.4


def write(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Kind -> file. Nothing in them is symmetric, so that a forgotten turn shows."""
    generator = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(generator.integers(0, 256, (3, 4, 3), np.uint8))
    photo = coarse.resize((60, 44), PIL.Image.Resampling.BICUBIC)
    alpha = PIL.Image.fromarray(np.tile(np.arange(60, dtype=np.uint8) * 4, (44, 1)))
    transparent = photo.copy()
    transparent.putalpha(alpha)
    palette, exif = photo.quantize(16), PIL.Image.Exif()
    exif[ORIENTATION] = 6
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    kinds = {
        "plain.png": (photo, {}),
        "turned.jpg": (photo, {"exif": exif}),
        "turned.png": (photo, {"exif": exif}),
        "turned.webp": (photo, {"exif": exif}),
        "turned grey.jpg": (photo.convert("L"), {"exif": exif}),
        "turned cmyk.jpg": (photo.convert("CMYK"), {"exif": exif}),
        "grey.png": (photo.convert("L"), {}),
        "grey with alpha.png": (transparent.convert("LA"), {}),
        "16-bit grey.png": (PIL.Image.fromarray(deep), {}),
        "turned 16-bit grey.png": (PIL.Image.fromarray(deep), {"exif": exif}),
        "black and white.png": (photo.convert("1"), {}),
        "alpha.png": (transparent, {}),
        "palette.png": (palette, {}),
        "palette with alpha.png": (palette, {"transparency": bytes(range(0, 256, 16))}),
        "palette.gif": (palette, {"transparency": 3}),
        "cmyk.jpg": (photo.convert("CMYK"), {}),
        "plain.tif": (photo, {"compression": "tiff_lzw"}),
        "upright by its format.tif": (photo, {"tiffinfo": {ORIENTATION: 6}}),
        "16-bit grey.tif": (PIL.Image.fromarray(deep), {}),
        "plain.avif": (photo, {}),
        "turned.avif": (photo, {"exif": exif}),
    }
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return {name: folder / name for name in kinds}


def opened(path: pathlib.Path, exif_rotation: bool) -> PIL.Image.Image:
    """What the example in the docs gives."""
    text = DOCS.read_text()
    code = text[text.index("def opened(") : text.index("```", text.index("def opened("))]
    found = {"PIL": PIL, "np": np}
    exec(code, found)
    return found["opened"](path, exif_rotation)
