"""Build the ViT classifier (Dosovitskiy et al. 2021) as fine-tuned after MAE (He et al. 2022, A.1)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError
from semivit_jax.models import cost as cost_lib
from semivit_jax.models import heads
from semivit_jax.models import posemb as posemb_lib
from semivit_jax.models.cost import Cost
from semivit_jax.models.layers import fan_in_uniform, layer_norm, normal_init, stacked_blocks
from semivit_jax.models.mae import Mae
from semivit_jax.models.mae import cost as autoencoder_cost
from semivit_jax.models.patches import CHANNELS, PatchEmbed, patchify
from semivit_jax.models.spec import Compute, Cut, Family, ModelSpec
from semivit_jax.ops.optim import PathTable
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class ViTSize:
    """Sizes of the encoder; the patch in pixels per side.

    The last three are what later papers added; left away, it is the plain ViT.

    Attributes:
      patch_size: pixels per side.
      width: of a token.
      depth: blocks.
      num_heads: of the attention; they share the width.
      mlp_dim: hidden values of the MLP; of a gated one those that its last layer reads.
      mlp: a row of `layers.MLPS`.
      layer_scale: whether each branch has a learned factor per channel (Touvron et al. 2021, CaiT, eq. 8).
      registers: tokens beside the class token that belong to no patch (Darcet et al. 2024).
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    mlp: str = "gelu"
    layer_scale: bool = False
    registers: int = 0


def _dinov2(name: str, *sizes: int, mlp: str = "gelu") -> dict[str, ViTSize]:
    """DINOv2 (Oquab et al. 2023, table 17) without and with registers (Darcet et al. 2024)."""
    return {
        name: ViTSize(14, *sizes, mlp=mlp, layer_scale=True),
        f"{name}_reg4": ViTSize(14, *sizes, mlp=mlp, layer_scale=True, registers=4),
    }


VIT_SIZES = {
    "vit_s16": ViTSize(16, 384, 12, 6, 1536),
    "vit_b16": ViTSize(16, 768, 12, 12, 3072),
    "vit_l16": ViTSize(16, 1024, 24, 16, 4096),
    "vit_h14": ViTSize(14, 1280, 32, 16, 5120),
    "vit_h16": ViTSize(16, 1280, 32, 16, 5120),
    "vit_s14": ViTSize(14, 384, 12, 6, 1536),  # DINOv2's sizes, its LayerScale folded into the layer before
    "vit_b14": ViTSize(14, 768, 12, 12, 3072),
    "vit_l14": ViTSize(14, 1024, 24, 16, 4096),
    **_dinov2("dinov2_s14", 384, 12, 6, 1536),
    **_dinov2("dinov2_b14", 768, 12, 12, 3072),
    **_dinov2("dinov2_l14", 1024, 24, 16, 4096),
    **_dinov2("dinov2_g14", 1536, 40, 24, 4096, mlp="swiglu"),
    "vit_digits": ViTSize(2, 64, 4, 4, 256),  # 8 x 8 images
    "vit_digits4": ViTSize(4, 64, 4, 4, 256),  # the demo: 4 patches instead of 16
    "vit_s4": ViTSize(4, 384, 12, 6, 1536),  # 32 x 32 images
    "vit_study4": ViTSize(4, 96, 4, 3, 384),  # the same images on two CPU cores: docs/study.md
    "vit_study8": ViTSize(8, 96, 4, 3, 384),
    "vit_test": ViTSize(8, 48, 3, 3, 192),  # the tiny model of tests/parity
    "vit_test2": ViTSize(8, 48, 2, 3, 192),  # two blocks: the MAE of tests/parity, and stage tests
}


class ViT(nn.Module):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes).

    pool "mean": mean over the patch tokens, then `fc_norm`; pool "cls": `norm`, then the class token.
    posemb "learned": a parameter that starts as the sin-cos table; "sincos": that table, frozen.
    dtype None computes in the parameters' precision; the head always does.
    """

    spec: ModelSpec
    compute: Compute

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, patch_init, dtype)
        self.cls_token = self.param("cls_token", normal_init, (1, 1, size.width))
        table = posemb_lib.sincos(size.width, grid_size(spec))[None]
        if size.registers:
            self.register_tokens = self.param("register_tokens", normal_init, (1, size.registers, size.width))
        if spec.posemb == "learned":
            self.position = self.param("posemb", lambda _: jnp.asarray(table, jnp.float32))
        else:
            self.position = table
        self.blocks = stacked_blocks(size, self.compute, kernel_init=normal_init, layer_norm_eps=spec.layer_norm_eps)
        if spec.pool == "mean":
            self.fc_norm = layer_norm(spec.layer_norm_eps, dtype)
        else:
            self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.width)

    def features(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        """What the head reads, (batch, width); drop_path_masks (depth, 2, batch) or None (evaluation)."""
        return self._pooled(self.blocks(self._embedded(images), drop_path_masks)[0])

    def _embedded(self, images: jax.Array) -> jax.Array:
        """What the blocks read, (batch, tokens, width)."""
        x = self.patch_embed(patchify(images, self.spec.size.patch_size))
        cls_token = jnp.broadcast_to(self.cls_token.astype(x.dtype), (x.shape[0], 1, x.shape[2]))
        x = jnp.concatenate([cls_token, x], axis=1) + jnp.asarray(self.position, x.dtype)
        registers = self.spec.size.registers
        if registers:  # no place of the image, so no position
            tokens = jnp.broadcast_to(self.register_tokens.astype(x.dtype), (x.shape[0], registers, x.shape[2]))
            x = jnp.concatenate([x[:, :1], tokens, x[:, 1:]], axis=1)
        return x

    def _pooled(self, x: jax.Array) -> jax.Array:
        if self.spec.pool == "mean":
            return self.fc_norm(x[:, 1 + self.spec.size.registers :].mean(axis=1))
        return self.norm(x)[:, 0]

    def __call__(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        return self.classify(self.features(images, drop_path_masks))

    def classify(self, features: jax.Array) -> jax.Array:
        """Logits (batch, num_classes) of what the head reads, at least float32."""
        return heads.logits(self.head_hidden, self.head, features)

    def below_cut(self, images: jax.Array) -> jax.Array:
        """See `spec.Cut`."""
        return self.blocks(self._embedded(images), None)[0]

    def above_cut(self, x: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        """See `spec.Cut`."""
        return self.classify(self._pooled(self.blocks(x, drop_path_masks)[0]))


def grid_size(spec: ModelSpec) -> int:
    """Patches per side."""
    return spec.image_size // spec.size.patch_size


def head_dims(spec: ModelSpec) -> tuple[int, ...]:
    """Of the encoder's attention, and the decoder's where there is one."""
    return tuple(size.width // size.num_heads for size in (spec.size, spec.decoder) if size is not None)


def drop_path_rates(size: ViTSize, rate: float) -> np.ndarray:
    """Rates of stochastic depth, linear from 0 to `rate` (Huang et al. 2016), float64 (depth, 2)."""
    return np.repeat(np.linspace(0.0, rate, size.depth)[:, None], 2, axis=1)


def lr_scales(size: ViTSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """Layer-wise learning-rate factors decay^(n - id), n = depth + 1, as (path pattern, factor per layer).

    Id 0 is everything before the blocks, block i is i + 1, what follows is n and is scaled by
    head_lr_scale (Bao et al. 2022; ids as published).
    """
    depth, n = size.depth, size.depth + 1
    return (
        (r"^(cls_token|register_tokens|posemb|patch_embed/.*)$", layer_decay**n),
        (r"^blocks/", [layer_decay ** (n - 1 - layer) for layer in range(depth)]),
        (r"^(norm|fc_norm|head|head_hidden)/", head_lr_scale),
    )


def weight_decays(weight_decay: float) -> PathTable:
    """Weight decay as (path pattern, value): none for biases, norms, LayerScale, tokens and posemb."""
    return (
        (r"(^|/)(cls_token|register_tokens|posemb|bias|scale|gamma)$", 0.0),
        (r"/kernel$", weight_decay),
    )


def cost(spec: ModelSpec, mask_ratio: float) -> Cost:
    """One image through the ViT and its head, or through the masked autoencoder around it."""
    if spec.decoder is not None:
        return autoencoder_cost(spec, mask_ratio)
    size, patches = spec.size, grid_size(spec) ** 2
    passed = cost_lib.stack(size, patches + 1 + size.registers)  # one class token
    flops = (
        cost_lib.embedding(patches, CHANNELS * size.patch_size**2, size.width)
        + cost_lib.blocks(passed)
        + heads.flops(spec, size.width)
    )
    return Cost(flops, (passed,), through=cost_lib.through(passed))


def told(spec: ModelSpec) -> tuple[str, ...]:
    """Patches; and what there is a choice of, which an autoencoder leaves none."""
    size, patches = spec.size, f"patches of {spec.size.patch_size}"
    if spec.decoder is not None:
        return (patches,)
    more = (
        *([counted(size.registers, "register")] if size.registers else []),
        *(["LayerScale"] if size.layer_scale else []),
        *(["SwiGLU"] if size.mlp == "swiglu" else []),
    )
    return (patches, *more, f"{spec.posemb} position embedding, pool {spec.pool}")


def autoencoder(spec: ModelSpec, compute: Compute, mask_ratio: float) -> Mae:
    """The masked autoencoder around a plain ViT.

    Raises:
      ConfigError: the ViT has registers, LayerScale or a gated MLP, which the autoencoders of the paper have not.
    """
    if spec.size.registers or spec.size.layer_scale or spec.size.mlp != "gelu":
        raise ConfigError(
            f"config.model.variant is {spec.variant!r}, whose registers, LayerScale or SwiGLU no masked autoencoder "
            "here has: start from weights (config.init_from), or pre-train a plain one such as vit_b16"
        )
    return Mae(spec, compute, mask_ratio)


CUT = Cut(
    depth=lambda size: size.depth,
    sizes=lambda size, blocks: (
        dataclasses.replace(size, depth=size.depth - blocks),
        dataclasses.replace(size, depth=blocks),
    ),
    above=r"^(norm|fc_norm|head|head_hidden)/",
)
LORA = {
    "attention": r"^blocks/attn/(qkv|proj)/kernel$",
    "mlp": r"^blocks/mlp/\w+/kernel$",
    "attention_mlp": r"^blocks/(attn|mlp)/\w+/kernel$",
}
MLPS = "blocks/mlp"
FAMILY = Family(
    name="vit",
    size=ViTSize,
    sizes=VIT_SIZES,
    legal={
        "pool": ("mean", "cls"),
        "posemb": ("learned", "sincos"),
        "attention": ("auto", "xla", "cudnn"),
        "head": heads.HEADS,
    },
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=head_dims,
    module=ViT,
    drop_path_rates=drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=weight_decays,
    stacked=r"(^|/)blocks/",
    autoencoder=autoencoder,
    cost=cost,
    told=told,
    cut=CUT,
    lora=LORA,
    mlps=MLPS,
)
