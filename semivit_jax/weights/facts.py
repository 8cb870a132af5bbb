"""What must be known beside the arrays to build a model around them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from semivit_jax.models.convnext import ConvNeXt
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.mae import Mae
from semivit_jax.models.vit import ViT
from semivit_jax.weights.layout import flatten

# How a model computes matters to training runs only; weights in and out are float32 on any device.
_PLAIN = {"dtype": None, "attention": "xla", "remat": "none", "unroll": 1}


@dataclasses.dataclass(frozen=True)
class VitFacts:
    """A `ViT`: its sizes, `pool` ("mean" or "cls"), `posemb` ("learned" or "sincos").

    num_classes 0 means that there is no head, image_size is in pixels.
    """

    variant: str
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    image_size: int
    pool: str
    posemb: str
    num_classes: int
    layer_norm_eps: float = LAYER_NORM_EPS

    @property
    def grid_size(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    def module(self) -> ViT:
        """The module that `params` of these facts belong to, computing in the parameters' precision."""
        sizes = {name: value for name, value in dataclasses.asdict(self).items() if name != "variant"}
        return ViT(**sizes, head_init_std=0.0, **_PLAIN)


@dataclasses.dataclass(frozen=True)
class MaeFacts:
    """A `Mae`: encoder sizes, and the decoder's under `decoder_*`."""

    variant: str
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    image_size: int
    decoder_width: int
    decoder_depth: int
    decoder_num_heads: int
    layer_norm_eps: float = LAYER_NORM_EPS

    @property
    def grid_size(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    def module(self, *, mask_ratio: float) -> Mae:
        """The module that `params` of these facts belong to; the mask ratio belongs to training."""
        sizes = {name: value for name, value in dataclasses.asdict(self).items() if name != "variant"}
        return Mae(**sizes, mask_ratio=mask_ratio, **_PLAIN)


@dataclasses.dataclass(frozen=True)
class ConvNextFacts:
    """A `ConvNeXt`: blocks and channels per stage; num_classes 0 means that there is no head.

    layer_norm_eps belongs to the final norm alone.
    """

    variant: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    image_size: int
    num_classes: int
    layer_norm_eps: float = LAYER_NORM_EPS

    def module(self) -> ConvNeXt:
        """The module that `params` of these facts belong to."""
        return ConvNeXt(self.depths, self.widths, self.num_classes, final_norm_eps=self.layer_norm_eps)


ModelFacts = VitFacts | MaeFacts | ConvNextFacts
_FAMILIES: dict[str, type[ModelFacts]] = {"vit": VitFacts, "mae": MaeFacts, "convnext": ConvNextFacts}


def to_json(facts: ModelFacts) -> dict:
    """Plain dict with the family's name, read back by `from_json`."""
    (family,) = (name for name, kind in _FAMILIES.items() if isinstance(facts, kind))
    return {"family": family, **dataclasses.asdict(facts)}


def from_json(record: Mapping) -> ModelFacts:
    """Inverse of `to_json`.

    Raises:
      ValueError: an unknown family.
    """
    if record["family"] not in _FAMILIES:
        raise ValueError(f"model family {record['family']!r}: must be one of {', '.join(_FAMILIES)}")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items() if name != "family"
    }
    return _FAMILIES[record["family"]](**fields)


def param_shapes(facts: ModelFacts) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by "/"-joined path; no array is made. Without a head where there is none."""
    image = jax.ShapeDtypeStruct((1, facts.image_size, facts.image_size, 3), jnp.float32)
    if isinstance(facts, MaeFacts):
        noise = jax.ShapeDtypeStruct((1, facts.grid_size**2), jnp.float32)
        inputs, module = (image, noise), facts.module(mask_ratio=0.75)  # any ratio: shapes are the same
    else:
        inputs, module = (image,), facts.module()
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    shapes = {path: leaf.shape for path, leaf in flatten(variables["params"]).items()}
    if isinstance(facts, MaeFacts) or facts.num_classes:
        return shapes
    return {path: shape for path, shape in shapes.items() if not path.startswith("head/")}
