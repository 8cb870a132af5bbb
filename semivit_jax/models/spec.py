"""Define ModelSpec (what a model is), Compute (how it runs) and Family (a kind of model)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from semivit_jax.models.cost import Cost
from semivit_jax.ops.optim import PathTable


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

    @property
    def mlp(self) -> str:
        """Of its blocks, which are the plain ones."""
        return "gelu"

    @property
    def layer_scale(self) -> bool:
        """Of its blocks: none."""
        return False


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """Small layers beside the MLPs of all blocks; see `models/bottleneck.py`.

    Attributes:
      rank: hidden values of each.
      scale: factor of what they give.
    """

    rank: int
    scale: float


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model without its arrays. The last two are what a run may add to a backbone; left away, it has neither.

    Attributes:
      family: a key of `families.FAMILIES`.
      variant: name of a size, for people and for the family's table.
      size: the family's own size, spelled out: an import outlives the table.
      image_size: pixels per side.
      layer_norm_eps: of every LayerNorm of a ViT; of a ConvNeXt's final one alone.
      pool: what the head reads, "mean", "cls", or "map" (attention pooling).
      posemb: position embedding, "learned", "sincos" (frozen) or "none".
      num_classes: outputs; 0 means that there is no head.
      decoder: of a masked autoencoder, which has no head; None for everything else.
      head: a word of `heads.HEADS`.
      bottleneck: beside its MLPs; None: there is none.
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
    head: str = "linear"
    bottleneck: Bottleneck | None = None


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


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a model is cut in two between its blocks, so that only the upper part is trained.

    Its module has two methods: `below_cut(images)` gives the tokens after all blocks of a lower part, in evaluation
    mode, and `above_cut(tokens, drop_path_masks)` the logits of an upper one.

    Attributes:
      depth: size -> blocks.
      sizes: (size, blocks above the cut) -> size of the lower part, and of the upper one.
      above: pattern of the paths that follow the blocks.
    """

    depth: Callable[[Any], int]
    sizes: Callable[[Any, int], tuple[Any, Any]]
    above: str


@dataclasses.dataclass(frozen=True)
class Family:
    """Models that differ in size alone; `size` below is a value of `sizes`.

    Attributes:
      name: of the family.
      size: the dataclass that a size is.
      sizes: variant -> size.
      legal: key of config.model -> the words that are legal here.
      stride: size -> pixels; image sides are multiples of it.
      stride_name: what those pixels are called.
      head_dims: spec -> head dimensions of its attention, () without: cuDNN takes some only.
      module: (spec, compute) -> module whose `__call__(images, drop_path_masks)` gives logits, and whose methods
        `features(images)` gives what the head reads and `classify(features)` the logits of that; without classes there
        is no head, and `features` alone.
      drop_path_rates: (size, rate of the last block) -> rates of all branches, float64.
      lr_scales: (size, layer_decay, head_lr_scale) -> table of learning-rate factors.
      weight_decays: weight_decay -> table of weight decays.
      stacked: pattern of the paths whose first axis is the layer: never cut, since the scan over depth slices it.
      autoencoder: (spec with a decoder, compute, mask_ratio) -> module; None: the family has none.
      cost: (spec, mask_ratio, 0 without a decoder) -> what one image costs; None: nobody has counted it.
      told: spec -> what people are told of a model beside its variant, image size and head.
      cut: for training the last blocks alone; None: the family cannot.
      lora: word of config.model.lora_matrices -> pattern of the paths of kernels of dense layers; {}: LoRA has none.
      mlps: path of the stacked MLPs of its blocks, which may have bottlenecks beside them; "": they may not.
    """

    name: str
    size: type
    sizes: Mapping[str, Any]
    legal: Mapping[str, tuple[str, ...]]
    stride: Callable[[Any], int]
    stride_name: str
    head_dims: Callable[[ModelSpec], tuple[int, ...]]
    module: Callable[[ModelSpec, Compute], nn.Module]
    drop_path_rates: Callable[[Any, float], np.ndarray]
    lr_scales: Callable[[Any, float, float], PathTable]
    weight_decays: Callable[[float], PathTable]
    stacked: str
    autoencoder: Callable[[ModelSpec, Compute, float], nn.Module] | None
    cost: Callable[[ModelSpec, float], Cost] | None
    told: Callable[[ModelSpec], tuple[str, ...]]
    cut: Cut | None = None
    lora: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mlps: str = ""
