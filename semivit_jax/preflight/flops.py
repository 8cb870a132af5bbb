"""Model FLOPs of one optimizer update, counted from the sizes alone.

Convention, the usual one of model FLOPs utilisation (Chowdhery et al. 2022, appendix B):

* a multiply-add counts 2; only matrix products count (projections, attention, patch embedding, head),
  everything else (normalisation, GELU, softmax, views, mixing, optimizer, EMA) counts nothing;
* a backward pass costs twice its forward pass, except for the patch embedding, whose input needs no
  gradient: once;
* nothing is counted for recomputation, so rematerialisation lowers the utilisation it reports.
"""

import dataclasses

from semivit_jax.config import Config, ConfigError, FinetuneConfig, MaeConfig, SemiConfig
from semivit_jax.models.vit import VIT_SIZES, ViTSize
from semivit_jax.plan import Plan

CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Flops:
    """Forward and backward FLOPs of one image through one network, or of a whole update."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def times(self, count: int) -> "Flops":
        return Flops(count * self.forward, count * self.backward)


def matmul(rows: int, inner: int, columns: int) -> Flops:
    """(rows, inner) @ (inner, columns), both factors receiving a gradient."""
    forward = 2 * rows * inner * columns
    return Flops(forward, 2 * forward)


def block(tokens: int, width: int, mlp_dim: int) -> Flops:
    """One transformer block on one image: qkv and output projections, two attention products, the MLP."""
    projections = matmul(tokens, width, 3 * width) + matmul(tokens, width, width)
    attention = matmul(tokens, width, tokens) + matmul(tokens, tokens, width)  # all heads together
    mlp = matmul(tokens, width, mlp_dim) + matmul(tokens, mlp_dim, width)
    return projections + attention + mlp


def patch_embedding(patches: int, patch_size: int, width: int) -> Flops:
    """The images are data: only the kernel receives a gradient."""
    forward = matmul(patches, CHANNELS * patch_size**2, width).forward
    return Flops(forward, forward)


def classifier(size: ViTSize, *, image_size: int, num_classes: int) -> Flops:
    """One image through the ViT and its head; a class token makes one token more than patches."""
    patches = (image_size // size.patch_size) ** 2
    return (
        patch_embedding(patches, size.patch_size, size.width)
        + block(patches + 1, size.width, size.mlp_dim).times(size.depth)
        + matmul(1, size.width, num_classes)
    )


def autoencoder(size: ViTSize, section: MaeConfig, *, image_size: int) -> Flops:
    """One image through the MAE: encoder on the kept patches only, decoder on all of them."""
    patches = (image_size // size.patch_size) ** 2
    kept = int(patches * (1 - section.mask_ratio))
    width = section.decoder_width
    return (
        patch_embedding(kept, size.patch_size, size.width)
        + block(kept + 1, size.width, size.mlp_dim).times(size.depth)
        + matmul(kept + 1, size.width, width)
        + block(patches + 1, width, 4 * width).times(section.decoder_depth)
        + matmul(patches + 1, width, CHANNELS * size.patch_size**2)
    )


def per_update(config: Config, plan: Plan) -> Flops:
    """Model FLOPs of one update of a stage, over its whole global batch.

    The semi stage passes every labeled and every strong image through the student, forward and backward,
    and every weak image through the teacher, forward only.

    Raises:
      ConfigError: the model is no ViT.
    """
    variant, image_size = config.model.variant, config.data.image_size
    if variant not in VIT_SIZES:
        raise ConfigError(f"config.model.variant is {variant!r}; FLOPs are counted for {', '.join(VIT_SIZES)}")
    size = VIT_SIZES[variant]
    section = config.stage(plan.stage)
    if isinstance(section, MaeConfig):
        return autoencoder(size, section, image_size=image_size).times(plan.batch_size)
    assert isinstance(section, FinetuneConfig)
    image = classifier(size, image_size=image_size, num_classes=plan.num_classes)
    if not isinstance(section, SemiConfig):
        return image.times(plan.batch_size)
    unlabeled = plan.batch_size * plan.unlabeled_ratio
    student = image.times(plan.batch_size + unlabeled)
    teacher = Flops(image.forward * unlabeled, 0)
    return student + teacher
