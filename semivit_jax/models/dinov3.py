"""Build DINOv3's ViT (Siméoni et al. 2025, section 3): queries and keys are turned by where their patches lie.

There is no position embedding. Each half of a head's pairs of values is turned by the row, and by the column, of the
patch's centre, counted from -1 to 1 over the image whatever its size (RoPE, Su et al. 2021; here in two dimensions), so
that weights fit images of any size. Class token and registers are not turned. Queries and values have a bias, keys
have none. LayerNorm follows the blocks, on every token, and pooling comes after it.

Parameters are those of `models/vit.py` with LayerScale, but for posemb, fc_norm, and attn/{qkv/kernel, query/bias,
value/bias, proj/{kernel, bias}}.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models import heads, vit
from semivit_jax.models.layers import (
    MLPS,
    Dense,
    LayerScale,
    attend,
    fan_in_uniform,
    layer_norm,
    masked,
    normal_init,
    scanned,
)
from semivit_jax.models.patches import CHANNELS, PatchEmbed, patchify
from semivit_jax.models.spec import Compute, Family, ModelSpec
from semivit_jax.models.vit import ViTSize
from semivit_jax.words import counted

ROPE_BASE = 100.0  # longest period of the turns, in halves of an image
LAYER_NORM_EPS = 1e-5
REGISTERS = 4


def _size(*sizes: int, mlp: str = "gelu") -> ViTSize:
    return ViTSize(16, *sizes, mlp=mlp, layer_scale=True, registers=REGISTERS)


DINOV3_SIZES = {
    "dinov3_s16": _size(384, 12, 6, 1536),
    "dinov3_s16plus": _size(384, 12, 6, 1536, mlp="swiglu"),
    "dinov3_b16": _size(768, 12, 12, 3072),
    "dinov3_l16": _size(1024, 24, 16, 4096),
    "dinov3_h16plus": _size(1280, 32, 20, 5120, mlp="swiglu"),
}


def turns(grid_size: int, head_dim: int) -> np.ndarray:
    """Angles of every patch's pairs, float32 (patches, head_dim / 2): first those of rows, then those of columns.

    2 pi c / base^(4 i / head_dim), with c the centre of the patch from -1 to 1.
    """
    centres = 2 * (np.arange(grid_size, dtype=np.float32) + np.float32(0.5)) / np.float32(grid_size) - 1
    periods = ROPE_BASE ** (np.arange(head_dim // 4, dtype=np.float32) * np.float32(4 / head_dim))
    rows, columns = np.meshgrid(centres, centres, indexing="ij")
    angles = 2 * np.pi * np.stack([rows.ravel(), columns.ravel()], axis=1)[:, :, None] / periods
    return angles.reshape(grid_size**2, head_dim // 2).astype(np.float32)


def turned(x: jax.Array, angles: np.ndarray) -> jax.Array:
    """Turns the pairs (i, i + head_dim / 2) of the patches, the last tokens; x (batch, tokens, heads, head_dim)."""
    before = x.shape[1] - len(angles)
    first, second = jnp.split(x[:, before:], 2, axis=-1)
    cos, sin = (jnp.asarray(f(angles), x.dtype)[:, None] for f in (np.cos, np.sin))
    patches = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([x[:, :before], patches], axis=1)


class _Bias(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.param("bias", nn.initializers.zeros, (x.shape[-1],)).astype(x.dtype)


class _Attention(nn.Module):
    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        (batch, tokens, width), heads, dtype = x.shape, self.spec.size.num_heads, self.compute.dtype
        angles = turns(vit.grid_size(self.spec), width // heads)
        qkv = Dense(3 * width, use_bias=False, kernel_init=normal_init, dtype=dtype, name="qkv")(x)
        query, key, value = jnp.split(qkv, 3, axis=-1)
        query, value = _Bias(name="query")(query), _Bias(name="value")(value)
        query, key, value = (y.reshape(batch, tokens, heads, width // heads) for y in (query, key, value))
        out = attend(turned(query, angles), turned(key, angles), value, self.compute.attention)
        out = out.reshape(batch, tokens, width)
        return Dense(width, kernel_init=normal_init, dtype=dtype, name="proj")(out)


class _Block(nn.Module):
    """x + LayerScale(branch(LayerNorm(x))), of attention and of the MLP; the body of a scan."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array, drop_path_mask: jax.Array | None) -> tuple[jax.Array, None]:
        """x (batch, tokens, width); drop_path_mask (2, batch), one row per branch, or None."""
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        attention = _Attention(spec, self.compute, name="attn")
        mlp = MLPS[size.mlp](size.mlp_dim, normal_init, dtype, name="mlp")
        for row, branch in enumerate((attention, mlp)):
            h = branch(layer_norm(spec.layer_norm_eps, dtype, f"norm{row + 1}")(x))
            x = x + masked(LayerScale(name=f"ls{row + 1}")(h), drop_path_mask, row)
        return x, None


class DinoV3(vit.ViT):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes).

    A ViT with other parts: nothing is added to the tokens before the blocks, and LayerNorm comes before pooling.
    pool "cls": the class token; "mean": mean over the patch tokens.
    """

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, patch_init, dtype)
        self.cls_token = self.param("cls_token", normal_init, (1, 1, size.width))
        self.register_tokens = self.param("register_tokens", normal_init, (1, size.registers, size.width))
        self.blocks = scanned(_Block, size.depth, self.compute)(spec, self.compute)
        self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.width)

    def _embedded(self, images: jax.Array) -> jax.Array:
        x = self.patch_embed(patchify(images, self.spec.size.patch_size))
        before = jnp.concatenate([self.cls_token, self.register_tokens], axis=1).astype(x.dtype)
        return jnp.concatenate([jnp.broadcast_to(before, (x.shape[0], *before.shape[1:])), x], axis=1)

    def _pooled(self, x: jax.Array) -> jax.Array:
        if self.spec.pool == "cls":
            return self.norm(x[:, 0])
        return self.norm(x)[:, 1 + self.spec.size.registers :].mean(axis=1)


def told(spec: ModelSpec) -> tuple[str, ...]:
    """Patches and registers, and what there is a choice of."""
    gated = ("SwiGLU",) if spec.size.mlp == "swiglu" else ()
    registers = counted(spec.size.registers, "register")
    return (f"patches of {spec.size.patch_size}", registers, "LayerScale", *gated, "RoPE", f"pool {spec.pool}")


FAMILY = Family(
    name="dinov3",
    size=ViTSize,
    sizes=DINOV3_SIZES,
    legal={"pool": ("cls", "mean"), "posemb": ("none",), "attention": ("auto", "xla", "cudnn"), "head": heads.HEADS},
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=vit.head_dims,
    module=DinoV3,
    drop_path_rates=vit.drop_path_rates,
    lr_scales=vit.lr_scales,
    weight_decays=vit.weight_decays,
    stacked=r"(^|/)blocks/",
    autoencoder=None,
    cost=vit.cost,
    told=told,
    cut=vit.CUT,
    lora=vit.LORA,
    mlps=vit.MLPS,
)
