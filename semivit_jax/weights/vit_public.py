"""List the public ViTs whose layouts are read (names of the hub; licences as their authors state them)."""

from semivit_jax.weights.public import Public

_NOT_COMMERCIAL = "CC BY-NC 4.0: no commercial use"  # MAE's, whatever a copy's card says


def _dinov2(size: str) -> dict[str, tuple[Public, ...]]:
    letter = size[0]
    return {
        f"dinov2_{letter}14": (Public(f"facebook/dinov2-{size}"), Public(f"timm/vit_{size}_patch14_dinov2.lvd142m")),
        f"dinov2_{letter}14_reg4": (
            Public(f"facebook/dinov2-with-registers-{size}"),
            Public(f"timm/vit_{size}_patch14_reg4_dinov2.lvd142m"),
        ),
    }


PUBLIC: dict[str, tuple[Public, ...]] = {
    "vit_s16": (
        Public("timm/vit_small_patch16_224.augreg_in21k"),
        Public("timm/vit_small_patch16_224.dino"),
    ),
    "vit_b16": (
        Public("timm/vit_base_patch16_224.mae", _NOT_COMMERCIAL),
        Public("facebook/vit-mae-base", _NOT_COMMERCIAL),
        Public("timm/vit_base_patch16_224.augreg_in21k"),
        Public("timm/vit_base_patch16_224.dino"),
        Public("google/vit-base-patch16-224-in21k"),
    ),
    "vit_l16": (
        Public("timm/vit_large_patch16_224.mae", _NOT_COMMERCIAL),
        Public("facebook/vit-mae-large", _NOT_COMMERCIAL),
        Public("timm/vit_large_patch16_224.augreg_in21k"),
    ),
    "vit_h14": (
        Public("timm/vit_huge_patch14_224.mae", _NOT_COMMERCIAL),
        Public("facebook/vit-mae-huge", _NOT_COMMERCIAL),
    ),
    **_dinov2("small"),
    **_dinov2("base"),
    **_dinov2("large"),
    **_dinov2("giant"),
}
"""Variant -> what is published of it."""
