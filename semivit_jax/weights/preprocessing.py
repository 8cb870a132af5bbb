"""Describe how images are prepared for given weights, and read timm's and Hugging Face's say."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bicubic", "bilinear")

_RESAMPLE_CODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as Hugging Face writes them


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The evaluation view: resize the short side, crop the centre, scale to 0..1, normalise.

    Attributes:
      image_size: side of the square the model sees, pixels.
      crop_fraction: image_size divided by the short side before the crop, 0 < fraction <= 1.
      interpolation: "bicubic" or "bilinear".
      mean: per channel (red, green, blue), subtracted from values in 0..1.
      std: per channel, divides afterwards.
    """

    image_size: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self):
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size}: must be at least 1 pixel")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction {self.crop_fraction}: must be above 0 and at most 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r}: must be one of {INTERPOLATIONS}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std}: three values each, std above 0")

    @property
    def resize_size(self) -> int:
        """Short side before the centre crop, pixels, rounded down as timm does."""
        return int(self.image_size / self.crop_fraction)

    def to_json(self) -> dict:
        """Plain dict, read back by `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping) -> "Preprocessing":
        """Inverse of `to_json`; lists become tuples."""
        return cls(**{**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])})


def normalise(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """uint8 pixels (..., 3) to the model's float32 input: scaled to 0..1, minus mean, over std."""
    scaled = pixels.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(preprocessing.mean)) / jnp.asarray(preprocessing.std)


IMAGENET_224 = Preprocessing(
    image_size=224, crop_fraction=0.875, interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD
)
"""What weights without a config are evaluated with by their authors: short side 256, centre 224."""


def from_timm(config: Mapping) -> Preprocessing:
    """Reads the `pretrained_cfg` part of a timm config.json.

    Raises:
      ValueError: the input is not a square of three channels, or a value is not legal.
    """
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise ValueError(f"input_size {config['input_size']}: only square colour images are supported")
    return Preprocessing(
        image_size=height,
        crop_fraction=config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def from_hugging_face(config: Mapping) -> Preprocessing:
    """Reads a preprocessor_config.json with either `size` alone, or a short side and a crop.

    `size` with height and width squeezes the image to a square there; the view here keeps the aspect
    ratio and crops, which is the same for square images.

    Raises:
      ValueError: the input is not square, or a value is not legal.
    """
    crop_fraction = 1.0
    if config.get("do_center_crop", False) or "crop_pct" in config:
        image_size, crop_fraction = _cropped_size(config)
    else:
        image_size = _square(config["size"])
    code = config["resample"]
    if code not in _RESAMPLE_CODES:
        raise ValueError(f"resample {code}: only 2 (bilinear) and 3 (bicubic) are supported")
    if not math.isclose(config.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ValueError(f"rescale_factor {config['rescale_factor']}: only 1/255 is supported")
    normalises = config.get("do_normalize", True)
    return Preprocessing(
        image_size=image_size,
        crop_fraction=crop_fraction,
        interpolation=_RESAMPLE_CODES[code],
        mean=tuple(config["image_mean"]) if normalises else (0.0, 0.0, 0.0),
        std=tuple(config["image_std"]) if normalises else (1.0, 1.0, 1.0),
    )


def _cropped_size(config: Mapping) -> tuple[int, float]:
    if "crop_pct" in config:  # ConvNeXt: `size` is the crop, and nothing is cropped from 384 pixels on
        size = _square(config["size"])
        return size, config["crop_pct"] if size < 384 else 1.0
    size = _square(config["crop_size"])
    return size, size / _square(config["size"])


def _square(size: int | Mapping) -> int:
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return size["shortest_edge"]
    if size["height"] != size["width"]:
        raise ValueError(f"size {dict(size)}: only square images are supported")
    return size["height"]
