"""Describe how images are prepared for given weights, and how sure their answers are to be taken."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bicubic", "bilinear")
COLOURS = (
    "grey, palette and CMYK images become RGB; alpha is dropped, the colour below it stays; 16-bit grey keeps its "
    "high byte"
)
"""What `data.images.decode` makes of other images than RGB, for people who make the pixels themselves."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The evaluation view: turn, resize the short side, crop the centre, scale to 0..1, normalise.

    Attributes:
      image_size: side of the square the model sees, pixels.
      crop_fraction: image_size divided by the short side before the crop, 0 < fraction <= 1.
      interpolation: "bicubic" or "bilinear".
      mean: per channel (red, green, blue), subtracted from values in 0..1.
      std: per channel, divides afterwards.
      exif_rotation: photos are turned first as their EXIF orientation asks.
      temperature: logits are divided by it before they become probabilities; 1 where none was fitted.
    """

    image_size: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    exif_rotation: bool
    temperature: float = 1.0

    def __post_init__(self):
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size}: must be at least 1 pixel")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction {self.crop_fraction}: must be above 0 and at most 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r}: must be one of {INTERPOLATIONS}")
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(f"mean {self.mean} and std {self.std}: three values each, std above 0")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean {self.mean} and std {self.std}: must be finite")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature}: must be above 0 and finite")

    @property
    def resize_size(self) -> int:
        """Short side before the centre crop, pixels, rounded down as timm does."""
        return int(self.image_size / self.crop_fraction)

    def to_json(self) -> dict:
        """Plain dict, read back by `from_json`; a temperature stands in it where one was fitted."""
        record = dataclasses.asdict(self)
        if self.temperature == 1.0:
            del record["temperature"]
        return record

    @classmethod
    def from_json(cls, record: Mapping) -> "Preprocessing":
        """Inverse of `to_json`; lists become tuples. Earlier records say nothing of EXIF: nothing was turned."""
        lists = {"mean": tuple(record["mean"]), "std": tuple(record["std"])}
        return cls(**{"exif_rotation": False, **record, **lists})


def normalise(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """uint8 pixels (..., 3) to the model's float32 input: scaled to 0..1, minus mean, over std."""
    scaled = pixels.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(preprocessing.mean)) / jnp.asarray(preprocessing.std)


IMAGENET_224 = Preprocessing(
    image_size=224,
    crop_fraction=0.875,
    interpolation="bicubic",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    exif_rotation=False,
)
"""How authors evaluate weights that come without a config: files as they are, short side 256, centre 224."""
