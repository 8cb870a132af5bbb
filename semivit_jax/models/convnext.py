"""Build ConvNeXt-T, -S, -B and -L (Liu et al. 2022, section 2 and appendix A), which DINOv3's are too.

Four stages of residual blocks. The stem is a 4x4 convolution of stride 4 followed by LayerNorm; the
other stages begin with LayerNorm and a 2x2 convolution of stride 2. A block is

    x + drop_path(gamma * fc2(gelu(fc1(norm(dwconv(x))))))

with a 7x7 depthwise convolution, the exact (erf) GELU and one learned factor per channel, gamma.
The head reads LayerNorm of the global mean. Every LayerNorm works on channels with eps 1e-6, but the last one's
can be set, because Hugging Face's ConvNeXt has 1e-12 there alone.

Parameters are a nested dict in the parameters' dtype. The blocks of a stage are one scanned module, so
their arrays carry a leading axis of length `depths[i]`:

    downsample_0       conv/{kernel (4,4,3,W0), bias}, norm/{scale, bias}
    downsample_1..3    norm/{scale, bias}, conv/{kernel (2,2,W_{i-1},W_i), bias}
    stages_0..3        dwconv/{kernel (d,7,7,1,W), bias (d,W)}, norm/{scale, bias (d,W)},
                       fc1/{kernel (d,W,4W), bias (d,4W)}, fc2/{kernel (d,4W,W), bias (d,W)}, gamma (d,W)
    norm/{scale, bias (W3)}, head/{kernel (W3,K), bias (K)}
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models import cost as cost_lib
from semivit_jax.models import heads
from semivit_jax.models.cost import Arrays, Cost, Stack
from semivit_jax.models.layers import LAYER_NORM_EPS, Dense, gelu, layer_norm, normal_init, scanned
from semivit_jax.models.patches import CHANNELS
from semivit_jax.models.spec import Compute, Family, ModelSpec
from semivit_jax.ops.optim import PathTable

MLP_RATIO = 4
GAMMA_INIT = 1e-6  # layer scale at the start, section A.1 of the paper
STRIDE = 32  # of the whole network: 4 in the stem, 2 in each of the three other stages
STEM, WINDOW = 4, 7  # pixels of a side of the kernels of the stem and of a block

# What a block's steps make: the sum it adds to, the convolution, its norm and fc2 are kept in bfloat16; fc1 and GELU.
ARRAYS = Arrays(working=(12, 5), kept=(4, 2), dots=(2, 1), inputs=(1, 0))
LANES = 128  # of a TPU, which rounds channels up to them; GPUs do not


@dataclasses.dataclass(frozen=True)
class ConvNeXtSize:
    """Blocks and channels of each stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


CONVNEXT_SIZES = {
    "convnext_tiny": ConvNeXtSize((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ConvNeXtSize((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ConvNeXtSize((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ConvNeXtSize((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_test": ConvNeXtSize((1, 1, 2, 1), (8, 16, 24, 32)),
}


class ConvNeXtBlock(nn.Module):
    """One residual block. Called as the body of a scan: `(x, keep) -> (x, None)`.

    Attributes:
      width: channels W.
      dtype: of the activations; None takes the promoted type of inputs and parameters.
    """

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, None]:
        """Applies the block.

        Args:
          x: (batch, height, width, W).
          keep: (batch,) factor of the branch: 0 drops it, 1/(1-rate) keeps it, 1 in evaluation.

        Returns:
          (array of the shape and dtype of x, None).
        """
        dense = functools.partial(Dense, kernel_init=normal_init, dtype=self.dtype)
        branch = nn.Conv(
            self.width,
            (7, 7),
            padding=3,
            feature_group_count=self.width,
            kernel_init=normal_init,
            dtype=self.dtype,
            name="dwconv",
        )(x)
        branch = layer_norm(LAYER_NORM_EPS, self.dtype, "norm")(branch)
        branch = dense(MLP_RATIO * self.width, name="fc1")(branch)
        branch = gelu(branch, self.dtype)
        branch = dense(self.width, name="fc2")(branch)
        gamma = self.param("gamma", nn.initializers.constant(GAMMA_INIT), (self.width,))
        branch = branch * gamma.astype(branch.dtype)
        return x + branch * keep[:, None, None, None].astype(branch.dtype), None


class Downsample(nn.Module):
    """What stands before the blocks of a stage: the stem, or LayerNorm and a 2x2 convolution of stride 2.

    Attributes:
      width: channels out.
      is_stem: 4x4 convolution of stride 4, then LayerNorm; otherwise LayerNorm, then the 2x2 convolution.
      dtype: of the activations.
    """

    width: int
    is_stem: bool
    dtype: Any = None

    def setup(self):
        size = (4, 4) if self.is_stem else (2, 2)
        self.conv = nn.Conv(self.width, size, strides=size, padding="VALID", kernel_init=normal_init, dtype=self.dtype)
        self.norm = layer_norm(LAYER_NORM_EPS, self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) to (batch, height/s, width/s, W) with s the stride."""
        return self.norm(self.conv(x)) if self.is_stem else self.conv(self.norm(x))


class ConvNeXt(nn.Module):
    """Image classifier; the head of this file lists its parameters. Attention is not asked for."""

    spec: ModelSpec
    compute: Compute

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        self.downsample = [Downsample(width, is_stem=i == 0, dtype=dtype) for i, width in enumerate(size.widths)]
        self.stages = [
            scanned(ConvNeXtBlock, depth, self.compute)(width, dtype)
            for depth, width in zip(size.depths, size.widths, strict=True)
        ]
        self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.widths[-1])

    def features(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        """What the head reads: the normalised global mean of the last stage.

        Args:
          images: (batch, height, width, 3), normalised; both sides multiples of 32.
          drop_path_masks: (blocks of all stages, batch) factor of each block's branch, 0 where dropped and
            1/(1-rate) where kept; None in evaluation. Drawn by the caller: models hold no randomness.

        Returns:
          (batch, widths[-1]).

        Raises:
          ValueError: a side that is not a multiple of 32, or masks of another shape.
        """
        depths = self.spec.size.depths
        _check_inputs(images, drop_path_masks, num_blocks=sum(depths))
        if drop_path_masks is None:
            drop_path_masks = jnp.ones((sum(depths), images.shape[0]), images.dtype)
        x, first_block = images, 0
        for downsample, blocks, depth in zip(self.downsample, self.stages, depths, strict=True):
            x, _ = blocks(downsample(x), drop_path_masks[first_block : first_block + depth])
            first_block += depth
        return self.norm(x.mean(axis=(1, 2)))

    def __call__(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        """Logits (batch, num_classes), at least float32; the arguments are those of `features`."""
        return self.classify(self.features(images, drop_path_masks))

    def classify(self, features: jax.Array) -> jax.Array:
        """Logits (batch, num_classes) of what the head reads, at least float32."""
        return heads.logits(self.head_hidden, self.head, features)


def _check_inputs(images: jax.Array, drop_path_masks: jax.Array | None, *, num_blocks: int) -> None:
    batch, height, width, _ = images.shape
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"image of {height} x {width} pixels: both sides must be multiples of {STRIDE}")
    if drop_path_masks is not None and drop_path_masks.shape != (num_blocks, batch):
        raise ValueError(
            f"drop_path_masks of shape {drop_path_masks.shape}: expected {(num_blocks, batch)}, "
            "one factor per block and image"
        )


def drop_path_rates(size: ConvNeXtSize, rate: float) -> np.ndarray:
    """Stochastic-depth rate per block, linear from 0 to `rate` over all stages, float64 (blocks of all stages,)."""
    return np.linspace(0.0, rate, sum(size.depths))


def lr_scales(size: ConvNeXtSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """Layer-wise learning-rate factors layer_decay ** (13 - id) (Liu et al. 2022, appendix A.2).

    The third stage has a group per three blocks; the groups are published for 27 blocks only, so the
    tiny model takes layer decay 1 alone.

    Args:
      size: of the model.
      layer_decay: factor from one group to the one below; 1 makes no difference between them.
      head_lr_scale: factor of the last group, the final norm and the head.

    Returns:
      Ordered (pattern, factor) pairs, searched in the "/"-joined path; the first that fits counts.
      A list has one factor per block, along the parameter's leading axis.

    Raises:
      ValueError: layer_decay is not 1 and the third stage is not 27 blocks long.
    """
    if layer_decay == 1.0:
        return ((r"^(norm|head|head_hidden)/", head_lr_scale), (r"", 1.0))
    depths = size.depths
    if len(depths) != 4 or depths[2] != 27:
        raise ValueError(
            f"layer_decay {layer_decay} with depths {depths}: the published groups need four stages with "
            "27 blocks in the third; use layer_decay 1.0"
        )
    return (
        (r"^downsample_0/", layer_decay**13),
        (r"^stages_0/", layer_decay**12),
        (r"^(downsample|stages)_1/", layer_decay**11),
        (r"^downsample_2/", layer_decay**10),
        (r"^stages_2/", [layer_decay ** (10 - block // 3) for block in range(27)]),
        (r"^(downsample|stages)_3/", layer_decay),
        (r"^(norm|head|head_hidden)/", head_lr_scale),
    )


def cost(spec: ModelSpec, mask_ratio: float) -> Cost:
    """One image: its products, those of convolutions included, and the blocks of each stage with what follows them.

    A stack has its width in whole LANES, so that on GPUs the first stages need less than is told.
    """
    size, side = spec.size, spec.image_size // STEM
    flops = cost_lib.embedding(side**2, CHANNELS * STEM**2, size.widths[0])
    stem, stacks, before = flops, [], 0
    for stage, (depth, width) in enumerate(zip(size.depths, size.widths, strict=True)):
        if stage:
            side //= 2
            flops += cost_lib.matmul(side**2, 4 * before, width)
        window = cost_lib.matmul(side**2, WINDOW**2, 1).times(width)
        mlp = cost_lib.matmul(side**2, width, MLP_RATIO * width) + cost_lib.matmul(side**2, MLP_RATIO * width, width)
        flops += (window + mlp).times(depth)
        lanes = math.ceil(width / LANES) * LANES
        stacks.append(Stack(side**2, lanes, MLP_RATIO * width, num_heads=0, depth=depth, arrays=ARRAYS))
        if stage < len(size.widths) - 1:
            kept = 2 if stage else 3  # what the next stage's norm reads and gives, and what the stem's reads
            stacks.append(Stack(side**2, lanes, 0, num_heads=0, depth=1, arrays=_always(kept)))
        before = width
    through = flops.forward - stem.forward
    return Cost(flops + heads.flops(spec, size.widths[-1]), tuple(stacks), through=through)


def _always(number: int) -> Arrays:
    """So many arrays between the blocks, which are kept however much of a block is computed again."""
    return Arrays(working=(number, 0), kept=(number, 0), dots=(number, 0), inputs=(number, 0))


def weight_decays(weight_decay: float) -> PathTable:
    """Weight decay as (path pattern, value): none for biases, norms and gamma.

    By name, because the vectors of scanned blocks are matrices here.
    """
    return (
        (r"/(bias|scale|gamma)$", 0.0),
        (r"/kernel$", weight_decay),
    )


FAMILY = Family(
    name="convnext",
    size=ConvNeXtSize,
    sizes=CONVNEXT_SIZES,
    legal={"pool": ("mean",), "posemb": ("none",), "attention": ("auto", "xla"), "head": heads.HEADS},
    stride=lambda size: STRIDE,
    stride_name="stride",
    head_dims=lambda spec: (),
    module=ConvNeXt,
    drop_path_rates=drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=weight_decays,
    stacked=r"(^|/)stages_\d+/",
    autoencoder=None,
    cost=cost,
    told=lambda spec: (),
    lora={"mlp": r"^stages_\d+/fc[12]/kernel$"},
)
