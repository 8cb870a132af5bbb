"""Build CLIP's image tower (Radford et al. 2021, section 2.4): a ViT that also normalises what its blocks read.

The patch embedding has no bias. The head reads what the linear probes of the paper do, the class token before its
projection to the space of images and texts (appendix A.3). OpenAI's towers compute with the sigmoid form of GELU
(`clip_*_quick`), most of OpenCLIP's with the exact one.

Parameters are those of `models/vit.py` but for patch_embed/bias, and with norm_pre.
"""

import jax

from semivit_jax.models import heads, vit
from semivit_jax.models.layers import fan_in_uniform, layer_norm, normal_init, stacked_blocks
from semivit_jax.models.patches import CHANNELS, PatchEmbed
from semivit_jax.models.spec import Family, ModelSpec
from semivit_jax.models.vit import ViTSize
from semivit_jax.ops.optim import PathTable

LAYER_NORM_EPS = 1e-5


def _both(name: str, *sizes: int) -> dict[str, ViTSize]:
    return {name: ViTSize(*sizes, mlp="gelu"), f"{name}_quick": ViTSize(*sizes, mlp="quick_gelu")}


CLIP_SIZES = {
    **_both("clip_b32", 32, 768, 12, 12, 3072),
    **_both("clip_b16", 16, 768, 12, 12, 3072),
    **_both("clip_l14", 14, 1024, 24, 16, 4096),
}


class Clip(vit.ViT):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes); pools as `vit.ViT`."""

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, None, dtype)
        self.cls_token = self.param("cls_token", normal_init, (1, 1, size.width))
        self.position = self.param("posemb", normal_init, (1, 1 + vit.grid_size(spec) ** 2, size.width))
        self.norm_pre = layer_norm(spec.layer_norm_eps, dtype)
        self.blocks = stacked_blocks(size, self.compute, kernel_init=normal_init, layer_norm_eps=spec.layer_norm_eps)
        if spec.pool == "mean":
            self.fc_norm = layer_norm(spec.layer_norm_eps, dtype)
        else:
            self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.num_classes:
            self.head_hidden, self.head = heads.layers_of(spec, self.compute, size.width)

    def _embedded(self, images: jax.Array) -> jax.Array:
        return self.norm_pre(super()._embedded(images))


def lr_scales(size: ViTSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """Those of a ViT; the norm before the blocks counts with what is before them."""
    return ((r"^norm_pre/", layer_decay ** (size.depth + 1)), *vit.lr_scales(size, layer_decay, head_lr_scale))


def told(spec: ModelSpec) -> tuple[str, ...]:
    """Patches, and what there is a choice of."""
    activation = "quick GELU" if spec.size.mlp == "quick_gelu" else "exact GELU"
    return (f"patches of {spec.size.patch_size}", activation, "norm before the blocks", f"pool {spec.pool}")


FAMILY = Family(
    name="clip",
    size=ViTSize,
    sizes=CLIP_SIZES,
    legal={"pool": ("cls", "mean"), "posemb": ("learned",), "attention": ("auto", "xla", "cudnn"), "head": heads.HEADS},
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=vit.head_dims,
    module=Clip,
    drop_path_rates=vit.drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=vit.weight_decays,
    stacked=r"(^|/)blocks/",
    autoencoder=None,
    cost=vit.cost,
    told=told,
    cut=vit.CUT,
    lora=vit.LORA,
    mlps=vit.MLPS,
)
