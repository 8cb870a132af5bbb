"""Build SigLIP's image tower (Zhai et al. 2023; SigLIP 2: Tschannen et al. 2025): a ViT that pools by attention.

There is no class token. LayerNorm follows the blocks, on every token. A learned query then attends to the tokens, and
an MLP beside a skip connection follows (Zhai et al. 2022, "Scaling Vision Transformers", section 3.2). The head reads
what comes out: SigLIP compares it with texts as it is, without a projection.

Google's towers compute with the tanh form of GELU, and so does transformers; timm builds most of them with the exact
one (`siglip_*_erf`).

Parameters are those of `models/vit.py` but for cls_token and fc_norm, and with attn_pool/{probe, query, key_value,
proj, norm, mlp/{fc1, fc2}} where the pool is "map".
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models import cost as cost_lib
from semivit_jax.models import heads, vit
from semivit_jax.models.cost import Cost
from semivit_jax.models.layers import MLPS, Dense, attend, fan_in_uniform, layer_norm, normal_init, stacked_blocks
from semivit_jax.models.patches import CHANNELS, PatchEmbed, patchify
from semivit_jax.models.spec import Compute, Cut, Family, ModelSpec
from semivit_jax.models.vit import ViTSize
from semivit_jax.ops.optim import PathTable


def _both(name: str, *sizes: int) -> dict[str, ViTSize]:
    return {name: ViTSize(*sizes, mlp="gelu_tanh"), f"{name}_erf": ViTSize(*sizes, mlp="gelu")}


SIGLIP_SIZES = {
    **_both("siglip_b16", 16, 768, 12, 12, 3072),
    **_both("siglip_l16", 16, 1024, 24, 16, 4096),
    **_both("siglip_so400m14", 14, 1152, 27, 16, 4304),
}


class AttentionPool(nn.Module):
    """Tokens (batch, tokens, width) -> (batch, width): what one learned query attends to, and an MLP."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, dtype = self.spec.size, self.compute.dtype
        (batch, tokens, width), heads = x.shape, size.num_heads
        probe = jnp.broadcast_to(self.param("probe", normal_init, (1, 1, width)).astype(x.dtype), (batch, 1, width))
        query = Dense(width, kernel_init=normal_init, dtype=dtype, name="query")(probe)
        key_value = Dense(2 * width, kernel_init=normal_init, dtype=dtype, name="key_value")(x)
        key, value = (y.reshape(batch, tokens, heads, -1) for y in jnp.split(key_value, 2, axis=-1))
        # One query is no work for a fused kernel.
        out = attend(query.reshape(batch, 1, heads, -1), key, value, "xla").reshape(batch, 1, width)
        out = Dense(width, kernel_init=normal_init, dtype=dtype, name="proj")(out)
        mlp = MLPS[size.mlp](size.mlp_dim, normal_init, dtype, name="mlp")
        return (out + mlp(layer_norm(self.spec.layer_norm_eps, dtype, "norm")(out)))[:, 0]


class Siglip(vit.ViT):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes).

    A ViT with other parts. pool "map": attention, see above; "mean": mean over the tokens.
    """

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, patch_init, dtype)
        self.position = self.param("posemb", normal_init, (1, vit.grid_size(spec) ** 2, size.width))
        self.blocks = stacked_blocks(size, self.compute, kernel_init=normal_init, layer_norm_eps=spec.layer_norm_eps)
        self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.pool == "map":
            self.attn_pool = AttentionPool(spec, self.compute)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.width)

    def _embedded(self, images: jax.Array) -> jax.Array:
        x = self.patch_embed(patchify(images, self.spec.size.patch_size))
        return x + jnp.asarray(self.position, x.dtype)

    def _pooled(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        return self.attn_pool(x) if self.spec.pool == "map" else x.mean(axis=1)


def lr_scales(size: ViTSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """Those of a ViT; attention pooling counts with what follows the blocks."""
    return ((r"^attn_pool/", head_lr_scale), *vit.lr_scales(size, layer_decay, head_lr_scale))


def weight_decays(weight_decay: float) -> PathTable:
    """Those of a ViT; the query has none, as other tokens."""
    return ((r"^attn_pool/probe$", 0.0), *vit.weight_decays(weight_decay))


def cost(spec: ModelSpec, mask_ratio: float) -> Cost:
    """One image through the backbone, attention pooling where there is one, and the head."""
    size, patches = spec.size, vit.grid_size(spec) ** 2
    passed = cost_lib.stack(size, patches)
    flops = cost_lib.embedding(patches, CHANNELS * size.patch_size**2, size.width) + cost_lib.blocks(passed)
    if spec.pool == "map":
        flops += _pooling(size, patches)
    return Cost(flops + heads.flops(spec, size.width), (passed,), through=cost_lib.through(passed))


def _pooling(size: ViTSize, tokens: int) -> cost_lib.Flops:
    width, mlp_dim = size.width, size.mlp_dim
    projections = cost_lib.matmul(1, width, 2 * width) + cost_lib.matmul(tokens, width, 2 * width)
    attention = cost_lib.matmul(1, width, tokens) + cost_lib.matmul(1, tokens, width)
    return projections + attention + cost_lib.matmul(1, width, mlp_dim) + cost_lib.matmul(1, mlp_dim, width)


def told(spec: ModelSpec) -> tuple[str, ...]:
    """Patches, and what there is a choice of."""
    activation = "tanh GELU" if spec.size.mlp == "gelu_tanh" else "exact GELU"
    pool = "attention" if spec.pool == "map" else spec.pool
    return (f"patches of {spec.size.patch_size}", activation, "no class token", f"pool {pool}")


FAMILY = Family(
    name="siglip",
    size=ViTSize,
    sizes=SIGLIP_SIZES,
    legal={"pool": ("map", "mean"), "posemb": ("learned",), "attention": ("auto", "xla", "cudnn"), "head": heads.HEADS},
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=vit.head_dims,
    module=Siglip,
    drop_path_rates=vit.drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=weight_decays,
    stacked=r"(^|/)blocks/",
    autoencoder=None,
    cost=cost,
    told=told,
    cut=Cut(depth=vit.CUT.depth, sizes=vit.CUT.sizes, above=r"^(norm|attn_pool|head|head_hidden)/"),
    lora=vit.LORA,
    mlps=vit.MLPS,
)
