"""Vision Transformer classifier (Dosovitskiy et al. 2021) as fine-tuned after MAE (He et al. 2022, A.1)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models import posemb as posemb_lib
from semivit_jax.models.layers import (
    LAYER_NORM_EPS,
    Dense,
    fan_in_uniform,
    layer_norm,
    normal_init,
    stacked_blocks,
)
from semivit_jax.models.patches import PatchEmbed, patchify
from semivit_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ViTSize:
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int


VIT_SIZES = {
    "vit_s16": ViTSize(16, 384, 12, 6, 1536),
    "vit_b16": ViTSize(16, 768, 12, 12, 3072),
    "vit_l16": ViTSize(16, 1024, 24, 16, 4096),
    "vit_h14": ViTSize(14, 1280, 32, 16, 5120),
    "vit_h16": ViTSize(16, 1280, 32, 16, 5120),
    "vit_s14": ViTSize(14, 384, 12, 6, 1536),  # DINOv2's sizes (Oquab et al. 2023)
    "vit_b14": ViTSize(14, 768, 12, 12, 3072),
    "vit_l14": ViTSize(14, 1024, 24, 16, 4096),
    "vit_digits": ViTSize(2, 64, 4, 4, 256),  # 8 x 8 images, the demo
    "vit_s4": ViTSize(4, 384, 12, 6, 1536),  # 32 x 32 images
    "vit_test": ViTSize(8, 48, 3, 3, 192),  # the recorded tiny model
    "vit_test2": ViTSize(8, 48, 2, 3, 192),  # two blocks: the recorded MAE, and stage tests
}


class ViT(nn.Module):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes).

    pool "mean": mean over the patch tokens, then `fc_norm`; pool "cls": `norm`, then the class token.
    posemb "learned": a parameter that starts as the sin-cos table; "sincos": that table, frozen.
    dtype None computes in the parameters' precision; the head always does.
    """

    patch_size: int
    image_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    num_classes: int
    pool: str
    posemb: str
    head_init_std: float
    dtype: jnp.dtype | None
    attention: str
    remat: str
    unroll: int
    layer_norm_eps: float = LAYER_NORM_EPS

    def setup(self):
        grid_size, p = self.image_size // self.patch_size, self.patch_size
        patch_init = fan_in_uniform(3 * p * p)
        self.patch_embed = PatchEmbed(self.width, p, patch_init, patch_init, self.dtype)
        self.cls_token = self.param("cls_token", normal_init, (1, 1, self.width))
        table = posemb_lib.sincos(self.width, grid_size)[None]
        if self.posemb == "learned":
            self.position = self.param("posemb", lambda _: jnp.asarray(table, jnp.float32))
        else:
            self.position = table
        self.blocks = stacked_blocks(
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            kernel_init=normal_init,
            dtype=self.dtype,
            attention=self.attention,
            remat=self.remat,
            unroll=self.unroll,
            layer_norm_eps=self.layer_norm_eps,
        )
        if self.pool == "mean":
            self.fc_norm = layer_norm(self.layer_norm_eps, self.dtype)
        else:
            self.norm = layer_norm(self.layer_norm_eps, self.dtype)
        if self.num_classes:
            self.head = Dense(self.num_classes, kernel_init=nn.initializers.normal(self.head_init_std))

    def features(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        """What the head reads, (batch, width); drop_path_masks (depth, 2, batch) or None (evaluation)."""
        x = self.patch_embed(patchify(images, self.patch_size))
        cls_token = jnp.broadcast_to(self.cls_token.astype(x.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([cls_token, x], axis=1) + jnp.asarray(self.position, x.dtype)
        x, _ = self.blocks(x, drop_path_masks)
        if self.pool == "mean":
            return self.fc_norm(x[:, 1:].mean(axis=1))
        return self.norm(x)[:, 0]

    def __call__(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        features = self.features(images, drop_path_masks)
        return self.head(features.astype(jnp.promote_types(features.dtype, jnp.float32)))


def grid_size(spec: ModelSpec) -> int:
    """Patches per side."""
    return spec.image_size // spec.size.patch_size


def lr_scales(depth: int, layer_decay: float, head_lr_scale: float) -> tuple[tuple[str, float | list[float]], ...]:
    """Layer-wise learning-rate factors decay^(n - id), n = depth + 1, as (path pattern, factor per layer).

    Id 0 is everything before the blocks, block i is i + 1, what follows is n and is scaled by
    head_lr_scale (Bao et al. 2022; ids as recorded).
    """
    n = depth + 1
    return (
        (r"^(cls_token|posemb|patch_embed/.*)$", layer_decay**n),
        (r"^blocks/", [layer_decay ** (n - 1 - layer) for layer in range(depth)]),
        (r"^(norm|fc_norm|head)/", head_lr_scale),
    )


def weight_decays(weight_decay: float) -> tuple[tuple[str, float], ...]:
    """Weight decay as (path pattern, value): none for biases, norms, class token and posemb."""
    return (
        (r"(^|/)(cls_token|posemb|bias|scale)$", 0.0),
        (r"/kernel$", weight_decay),
    )
