"""A small timm ViT, and how close its outputs must be to ours."""

from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.weights.importing import import_weights
from tests.interop.conftest import PIXELS, randomised

TOLERANCE = 1e-4
SIZE = VIT_SIZES["vit_test"]
SMALL = {
    "img_size": PIXELS,
    "patch_size": SIZE.patch_size,
    "embed_dim": SIZE.width,
    "depth": SIZE.depth,
    "num_heads": SIZE.num_heads,
    "mlp_ratio": SIZE.mlp_dim // SIZE.width,
}


def imported(source, variant="vit_test", *, pool=None, image_size=PIXELS, decoder=False):
    return import_weights(str(source), variant=variant, pool=pool, image_size=image_size, decoder=decoder)


def small_timm_vit(**changes):
    import timm.models.vision_transformer as vit

    return randomised(vit.VisionTransformer(**{**SMALL, "num_classes": 5, **changes}))


def names_in(report) -> set[str]:
    return {name for row in report.params for name in row.names}
