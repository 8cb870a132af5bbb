"""Read what timm's and Hugging Face's configs say of preprocessing; refuse by key what the view here cannot do."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing

READING = "reading"  # our own key in timm's config.json, which timm and transformers pass over

_RESAMPLE_CODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as Hugging Face writes them
_SQUASHED = "photos are squashed to a square there; here the middle is cut out, which is the same for square ones"
_NOT_DONE = ("do_flip_channel_order", "do_grayscale", "do_pad", "rescale_offset", "do_rescale_offset", "offset")


class Said(NamedTuple):
    """What a config says, which fields it leaves to what is usual, and what people should know of it."""

    preprocessing: Preprocessing
    assumed: tuple[str, ...]
    notes: tuple[str, ...]


def from_timm(config: Mapping) -> Said:
    """Reads a config.json of timm; what `pretrained_cfg` leaves open has the default of `timm.data.config`.

    A size among `model_args` goes before that of `pretrained_cfg`, as it does there.

    Raises:
      ValueError: the input is not a square of three channels, or a value is not legal.
    """
    theirs = get(config, "pretrained_cfg", is_section, "an object", {})
    arguments = get(config, "model_args", is_section, "an object", {})
    reading = get(config, READING, is_section, "an object", {})
    mode = theirs.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {mode!r}: only 'center' and 'squash' are supported")
    return Said(
        Preprocessing(
            image_size=_square(arguments.get("img_size") or _timm_size(theirs), "img_size"),
            crop_fraction=get(theirs, "crop_pct", is_number, "a number", IMAGENET_224.crop_fraction),
            interpolation=theirs.get("interpolation") or IMAGENET_224.interpolation,
            **_normalisation(theirs, "mean", "std", top=1.0, why="values in 0..1"),
            exif_rotation=get(reading, "exif_rotation", is_flag, "true or false", False),
            temperature=get(reading, "temperature", is_number, "a number", 1.0),
        ),
        () if arguments.get("img_size") or theirs.get("input_size") else ("image_size",),
        (_SQUASHED,) if mode == "squash" else (),
    )


def _timm_size(config: Mapping) -> int:
    size = config.get("input_size") or [3, IMAGENET_224.image_size, IMAGENET_224.image_size]
    if not (isinstance(size, list) and len(size) == 3 and all(map(is_count, size))):
        raise ValueError(f"input_size {size!r}: expected channels, height and width")
    channels, height, width = size
    if channels != 3 or height != width:
        raise ValueError(f"input_size {size}: only square colour images are supported; --sum_channels takes others")
    return height


def from_hugging_face(config: Mapping) -> Said:
    """Reads a preprocessor_config.json with either `size` alone, or a short side and a crop.

    Mean and std belong to pixels times `rescale_factor`; they are brought to values in 0..1.

    Raises:
      ValueError: a step or a value that the view here does not have, or mean and std of another range.
    """
    for key in _NOT_DONE:
        if config.get(key):
            raise ValueError(f"{key} {config[key]!r}: not supported")
    if not _flag(config, "do_resize", True):
        raise ValueError("do_resize false: not supported, images are always resized here")
    crops = _flag(config, "do_center_crop", False)
    image_size, crop_fraction = _hugging_face_size(config, crops=crops)
    code = config["resample"]
    if not is_count(code) or code not in _RESAMPLE_CODES:
        raise ValueError(f"resample {code!r}: only 2 (bilinear) and 3 (bicubic) are supported")
    # A number stands for height and width there, unless a crop follows.
    by_short_side = isinstance(config["size"], Mapping) and config["size"].get("shortest_edge")
    squashes = not crops and config.get("crop_pct") is None and not by_short_side
    return Said(
        Preprocessing(
            image_size=image_size,
            crop_fraction=crop_fraction,
            interpolation=_RESAMPLE_CODES[code],
            **_hugging_face_normalisation(config),
            exif_rotation=False,
        ),
        (),
        (_SQUASHED,) if squashes else (),
    )


def _hugging_face_size(config: Mapping, *, crops: bool) -> tuple[int, float]:
    """(pixels that the model sees, share of the short side that they are)."""
    size = _square(config["size"], "size")
    crop_fraction = get(config, "crop_pct", is_number, "a number", None)
    if crop_fraction is not None:  # ConvNeXt: `size` is the crop, and nothing is cropped from 384 pixels on
        return size, crop_fraction if size < 384 else 1.0
    if not crops:
        return size, 1.0
    crop = _square(config["crop_size"], "crop_size")
    if crop > size:
        raise ValueError(f"crop_size {crop}: larger than size {size}, and images are not padded here")
    return crop, crop / size


def _hugging_face_normalisation(config: Mapping) -> dict[str, Any]:
    factor = 1.0
    if _flag(config, "do_rescale", True):
        factor = get(config, "rescale_factor", is_number, "a number", 1 / 255)
        why = f"pixels times rescale_factor {factor:g}"
    else:
        why = "pixels in 0..255, as do_rescale is false"
    if _flag(config, "do_normalize", True):
        return _normalisation(config, "image_mean", "image_std", top=255 * factor, why=why)
    if not math.isclose(255 * factor, 1.0, rel_tol=1e-6):
        raise ValueError(f"do_normalize false leaves {why}: only values in 0..1 are supported without it")
    return {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def _normalisation(config: Mapping, mean_key: str, std_key: str, *, top: float, why: str) -> dict[str, tuple]:
    """Mean and std of values in 0..1 from those of values in 0..`top`.

    Raises:
      ValueError: they cannot belong to values in 0..`top`.
    """
    mean = _triple(config, mean_key, IMAGENET_224.mean if mean_key == "mean" else None)
    std = _triple(config, std_key, IMAGENET_224.std if std_key == "std" else None)
    if math.isclose(top, 1.0, rel_tol=1e-6):  # the values as they are written, to the last bit
        top = 1.0
    fits = top > 0 and all(0 <= value <= top for value in mean) and all(0 < value <= top for value in std)
    # Above 1 they must show it: those of values in 0..1 fit every larger range as well.
    if not fits or (top > 1 and max(mean) < 1 and max(std) <= 1):
        raise ValueError(f"{mean_key} {list(mean)} and {std_key} {list(std)} contradict {why}")
    return {"mean": tuple(value / top for value in mean), "std": tuple(value / top for value in std)}


def _triple(config: Mapping, key: str, default: tuple | None) -> tuple[float, float, float]:
    value = config.get(key)
    if value is None:
        value = default
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(numbers) != 3 or not all(map(is_number, numbers)):
        raise ValueError(f"{key} {value!r}: expected a number for each of three channels")
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue


def _square(size: Any, key: str) -> int:
    """The side that a number, a pair, or an object of sides means."""
    sides = [size, size]
    if isinstance(size, list):
        sides = size
    elif isinstance(size, Mapping):
        sides = [size["shortest_edge"]] * 2 if size.get("shortest_edge") else [size["height"], size["width"]]
    if len(sides) != 2 or not all(map(is_count, sides)):
        raise ValueError(f"{key} {size!r}: expected pixels, a whole number of at least 1")
    if sides[0] != sides[1]:
        raise ValueError(f"{key} {size!r}: only square images are supported")
    return sides[0]


def _flag(config: Mapping, key: str, default: bool) -> bool:
    return get(config, key, is_flag, "true or false", default)


def get(config: Mapping, key: str, legal: Callable[[Any], bool], expected: str, default: Any) -> Any:
    """A value of a config; `default` where it is absent or null.

    Raises:
      ValueError: it is not legal.
    """
    value = config.get(key)
    if value is not None and not legal(value):
        raise ValueError(f"{key} {value!r}: expected {expected}")
    return default if value is None else value


def is_section(value: Any) -> bool:
    """Whether a value of JSON is an object."""
    return isinstance(value, Mapping)


def is_flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number, neither NaN nor of an absurd size."""
    return isinstance(value, int | float) and not is_flag(value) and -1e9 < value < 1e9


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1, as the side of an image in pixels."""
    return isinstance(value, int) and is_number(value) and value >= 1
