"""What must be known beside the arrays to build a model around them, and how it computes."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Sizes of a masked autoencoder's decoder (He et al. 2022, section 3)."""

    width: int
    depth: int
    num_heads: int

    @property
    def mlp_dim(self) -> int:
        """Of its blocks: four widths, as in the encoders of the paper."""
        return 4 * self.width


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model without its arrays.

    Attributes:
      family: a key of `families.FAMILIES`.
      variant: a row of the family's sizes, for people.
      size: the family's own size, spelled out: an import outlives the table.
      image_size: pixels per side.
      layer_norm_eps: of every LayerNorm of a ViT; of a ConvNeXt's final one alone.
      pool: what the head reads, "mean" or "cls".
      posemb: position embedding, "learned", "sincos" (frozen) or "none".
      num_classes: outputs; 0 means that there is no head.
      decoder: of a masked autoencoder, which has no head; None for everything else.
    """

    family: str
    variant: str
    size: Any
    image_size: int
    layer_norm_eps: float
    pool: str
    posemb: str
    num_classes: int
    decoder: Decoder | None


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a model computes.

    Attributes:
      dtype: of the activations; None computes in the parameters' precision.
      attention: kernel, "xla" or "cudnn"; models without attention leave it alone.
      remat: what of a block is computed again in the backward pass: "none", "dots" (all but matrix products) or "full".
      unroll: blocks per iteration of the scan over depth; changes rounding only.
      head_init_std: of a fresh head's kernel.
    """

    dtype: Any
    attention: str
    remat: str
    unroll: int
    head_init_std: float


PLAIN = Compute(dtype=None, attention="xla", remat="none", unroll=1, head_init_std=0.0)
"""Of weights in and out, which are float32 on any device."""
