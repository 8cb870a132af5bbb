"""Which model a source is imported into, and what may be resized, made anew or left over on the way."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from semivit_jax.models import posemb
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.families import shapes
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder, ModelSpec
from semivit_jax.models.vit import VIT_SIZES, grid_size
from semivit_jax.weights.fill import Resizer, Target
from semivit_jax.weights.layout import BLOCK
from semivit_jax.weights.names import Table
from semivit_jax.weights.resize import resize_patch_kernel
from semivit_jax.weights.sources import Source

POOLS = ("mean", "cls")
FIXED_TABLE_TOLERANCE = 1e-5  # the published tables are float32, with values in -1..1

_HEAD = ("head/kernel", "head/bias")
_FRESH_NORMS = {
    f"{norm}/{leaf}": value for norm in ("norm", "fc_norm") for leaf, value in (("scale", 1.0), ("bias", 0.0))
}
_PATCH_RESIZER = Resizer(axes=(0, 1), apply=lambda kernel, shape: resize_patch_kernel(kernel, shape[0]))

_EXPENDABLE = (
    (r"(layer|fc_)?norm\.", "final norm of the other pooling"),
    (r"(head|classifier)\.(weight|bias)$", "head on the other pooling"),
    (r"head\.", "projection head of the pre-training"),
    (r"pooler\.", "made for a pre-training task, not read by classifiers"),
    (r"(embeddings\.)?mask_token$", "used in pre-training only"),
    (r"decoder(_|\.)", "decoder of the pre-training: imported with --decoder"),
)
_FIXED_TABLES = (
    r".*(pos_embed|position_embeddings)$",
    "frozen sin-cos table: the model has it as a constant",
)


def choose_spec(source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool) -> ModelSpec:
    """The model of the given variant that takes as much of the source as possible; see `import_weights`.

    Raises:
      ValueError: an unknown variant, one of another family, or an option that does not apply.
    """
    if variant not in VIT_SIZES and variant not in CONVNEXT_SIZES:
        raise ValueError(f"model {variant!r}: must be one of {', '.join((*VIT_SIZES, *CONVNEXT_SIZES))}")
    family = "vit" if variant in VIT_SIZES else "convnext"
    if source.family != family:
        raise ValueError(f"the source is a {source.family} ({source.kind}), {variant} is a {family}")
    if family == "convnext":
        return _convnext_spec(source, variant=variant, pool=pool, image_size=image_size, decoder=decoder)
    return _vit_spec(source, variant=variant, pool=pool, image_size=image_size, decoder=decoder)


def target_for(source: Source, spec: ModelSpec) -> Target:
    """What `fill` needs to know to import `source` into the model of `spec`.

    Raises:
      ValueError: the decoder is wanted, but the frozen position embeddings are not the sin-cos tables.
    """
    if spec.decoder is not None:
        return _mae_target(source, spec, spec.decoder)
    is_vit, headless = spec.family == "vit", spec.num_classes == 0
    return Target(
        shapes=shapes(spec),
        table=source.table,
        resizers=_vit_resizers(spec) if is_vit else {},
        fresh=_FRESH_NORMS if is_vit else {},
        drawn=_HEAD if headless else (),
        expendable=_EXPENDABLE if is_vit else (),
    )


def _convnext_spec(source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool) -> ModelSpec:
    if pool not in (None, "mean") or decoder:
        raise ValueError(f"{variant}: has pool 'mean' and no decoder, got pool {pool!r}, decoder {decoder}")
    return ModelSpec(
        family="convnext",
        variant=variant,
        size=CONVNEXT_SIZES[variant],
        image_size=image_size,
        layer_norm_eps=source.layer_norm_eps,
        pool="mean",
        posemb="none",
        num_classes=source.num_classes,
        decoder=None,
    )


def _vit_spec(source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool) -> ModelSpec:
    size = VIT_SIZES[variant]
    if image_size % size.patch_size:
        raise ValueError(
            f"image_size {image_size}: must be a multiple of the patch size of {variant}, {size.patch_size}"
        )
    if source.num_heads not in (None, size.num_heads):
        raise ValueError(f"num_heads: the source has {source.num_heads}, {variant} {size.num_heads}")
    pool = source.pool if pool is None else pool
    if pool not in POOLS and not decoder:
        raise ValueError(f"pool {pool!r}: must be one of {POOLS}")
    spec = ModelSpec(
        family="vit",
        variant=variant,
        size=size,
        image_size=image_size,
        layer_norm_eps=source.layer_norm_eps,
        pool=pool,
        posemb="learned",
        num_classes=source.num_classes if pool == source.pool else 0,
        decoder=None,
    )
    return with_decoder(spec, _decoder(source)) if decoder else spec


def _decoder(source: Source) -> Decoder:
    if source.decoder is None or source.decoder_num_heads is None:
        raise ValueError(f"{source.kind}: has no decoder to continue pre-training with")
    stored, norm = source.tensors.shapes, str(source.decoder["blocks/norm1/scale"])
    return Decoder(
        width=stored[str(source.decoder["embed/bias"])][0],
        depth=sum(norm.replace(BLOCK, str(block)) in stored for block in range(len(stored))),
        num_heads=source.decoder_num_heads,
    )


def _vit_resizers(spec: ModelSpec) -> Mapping[str, Resizer]:
    def resize_posemb(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(posemb.resize(jnp.asarray(array), grid_size(spec)))

    return {"posemb": Resizer(axes=(1,), apply=resize_posemb), "patch_embed/kernel": _PATCH_RESIZER}


def _mae_target(source: Source, spec: ModelSpec, decoder: Decoder) -> Target:
    for name, width in zip(source.fixed_tables, (spec.size.width, decoder.width), strict=True):
        _check_fixed_table(source, name, width)
    return Target(
        shapes=shapes(spec),
        table={**_under("encoder", source.table), **_under("decoder", source.decoder or {})},
        resizers={"encoder/patch_embed/kernel": _PATCH_RESIZER},
        fresh={},
        drawn=(),
        expendable=(*_EXPENDABLE, _FIXED_TABLES),
    )


def _under(prefix: str, table: Table) -> Table:
    """The table one level down; position embeddings are constants of the MAE, and it has no head."""
    absent = ("posemb", "fc_norm/scale", "fc_norm/bias", *_HEAD)
    return {f"{prefix}/{path}": theirs for path, theirs in table.items() if path not in absent}


def _check_fixed_table(source: Source, name: str, width: int) -> None:
    stored = source.tensors.read(name)
    grid_size = round((stored.shape[1] - 1) ** 0.5)
    table = posemb.sincos(width, grid_size)[None]
    if stored.shape != table.shape or np.abs(stored - table).max() > FIXED_TABLE_TOLERANCE:
        raise ValueError(
            f"{name} of shape {stored.shape} is not the sin-cos table of shape {table.shape} that the MAE "
            "here has as a constant: its pre-training cannot be continued"
        )
