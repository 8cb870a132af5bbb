"""Build data2vec 2.0's ViT (Baevski et al. 2022): LayerNorm stands after the sums of its blocks, and before them all.

A block is norm2(y + mlp(y)) with y = norm1(x + attn(x)), as in the first transformers (Vaswani et al. 2017, section
3.1). What the blocks read is normalised, and there is no norm after the last one.

Parameters are those of `models/vit.py` but for norm and fc_norm, and with norm_pre.
"""

import flax.linen as nn
import jax

from semivit_jax.models import heads, vit
from semivit_jax.models.layers import MLPS, Attention, fan_in_uniform, layer_norm, masked, normal_init, scanned
from semivit_jax.models.patches import CHANNELS, PatchEmbed
from semivit_jax.models.spec import Compute, Cut, Family, ModelSpec
from semivit_jax.models.vit import ViTSize
from semivit_jax.ops.optim import PathTable

DATA2VEC_SIZES = {
    "data2vec_l16": ViTSize(16, 1024, 24, 16, 4096),
    "data2vec_h14": ViTSize(14, 1280, 32, 16, 5120),
}


class _Block(nn.Module):
    """LayerNorm(x + branch(x)), of attention and of the MLP; the body of a scan."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array, drop_path_mask: jax.Array | None) -> tuple[jax.Array, None]:
        """x (batch, tokens, width); drop_path_mask (2, batch), one row per branch, or None."""
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        attention = Attention(size.num_heads, normal_init, dtype, self.compute.attention, name="attn")
        mlp = MLPS[size.mlp](size.mlp_dim, normal_init, dtype, name="mlp")
        for row, branch in enumerate((attention, mlp)):
            x = layer_norm(spec.layer_norm_eps, dtype, f"norm{row + 1}")(x + masked(branch(x), drop_path_mask, row))
        return x, None


class Data2Vec(vit.ViT):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes).

    A ViT with other parts. pool "cls": the class token; "mean": mean over the patch tokens.
    """

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, patch_init, dtype)
        self.cls_token = self.param("cls_token", normal_init, (1, 1, size.width))
        self.position = self.param("posemb", normal_init, (1, 1 + vit.grid_size(spec) ** 2, size.width))
        self.norm_pre = layer_norm(spec.layer_norm_eps, dtype)
        self.blocks = scanned(_Block, size.depth, self.compute)(spec, self.compute)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.width)

    def _embedded(self, images: jax.Array) -> jax.Array:
        return self.norm_pre(super()._embedded(images))

    def _pooled(self, x: jax.Array) -> jax.Array:
        return x[:, 0] if self.spec.pool == "cls" else x[:, 1:].mean(axis=1)


def lr_scales(size: ViTSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """Those of a ViT; the norm before the blocks counts with what is before them."""
    return ((r"^norm_pre/", layer_decay ** (size.depth + 1)), *vit.lr_scales(size, layer_decay, head_lr_scale))


def told(spec: ModelSpec) -> tuple[str, ...]:
    """Patches, and what there is a choice of."""
    return (f"patches of {spec.size.patch_size}", "norms after the sums", f"pool {spec.pool}")


FAMILY = Family(
    name="data2vec",
    size=ViTSize,
    sizes=DATA2VEC_SIZES,
    legal={"pool": ("cls", "mean"), "posemb": ("learned",), "attention": ("auto", "xla", "cudnn"), "head": heads.HEADS},
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=vit.head_dims,
    module=Data2Vec,
    drop_path_rates=vit.drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=vit.weight_decays,
    stacked=r"(^|/)blocks/",
    autoencoder=None,
    cost=vit.cost,
    told=told,
    cut=Cut(depth=vit.CUT.depth, sizes=vit.CUT.sizes, above=r"^(head|head_hidden)/"),
    lora=vit.LORA,
    mlps=vit.MLPS,
)
