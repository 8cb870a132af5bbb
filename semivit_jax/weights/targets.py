"""Which model a source is imported into, and what may be resized, made anew or left over on the way."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from semivit_jax.models import posemb
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.families import VIT_SIZES
from semivit_jax.weights.facts import ConvNextFacts, MaeFacts, ModelFacts, VitFacts, param_shapes
from semivit_jax.weights.fill import Resizer, Target
from semivit_jax.weights.layout import BLOCK, Table
from semivit_jax.weights.sources import Source
from semivit_jax.weights.vit import resize_patch_kernel

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


def choose_facts(source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool) -> ModelFacts:
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
        return _convnext_facts(source, variant=variant, pool=pool, image_size=image_size, decoder=decoder)
    return _vit_facts(source, variant=variant, pool=pool, image_size=image_size, decoder=decoder)


def target_for(source: Source, facts: ModelFacts) -> Target:
    """What `fill` needs to know to import `source` into the model of `facts`.

    Raises:
      ValueError: the decoder is wanted, but the frozen position embeddings are not the sin-cos tables.
    """
    if isinstance(facts, MaeFacts):
        return _mae_target(source, facts)
    headless = facts.num_classes == 0
    return Target(
        shapes=param_shapes(facts),
        table=source.table,
        resizers=_vit_resizers(facts) if isinstance(facts, VitFacts) else {},
        fresh=_FRESH_NORMS if isinstance(facts, VitFacts) else {},
        drawn=_HEAD if headless else (),
        expendable=_EXPENDABLE if isinstance(facts, VitFacts) else (),
    )


def _convnext_facts(source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool) -> ConvNextFacts:
    if pool not in (None, "mean") or decoder:
        raise ValueError(f"{variant}: has pool 'mean' and no decoder, got pool {pool!r}, decoder {decoder}")
    size = CONVNEXT_SIZES[variant]
    return ConvNextFacts(
        variant, size.depths, size.widths, image_size, source.num_classes, layer_norm_eps=source.layer_norm_eps
    )


def _vit_facts(
    source: Source, *, variant: str, pool: str | None, image_size: int, decoder: bool
) -> VitFacts | MaeFacts:
    size = VIT_SIZES[variant]
    if image_size % size.patch_size:
        raise ValueError(
            f"image_size {image_size}: must be a multiple of the patch size of {variant}, {size.patch_size}"
        )
    if source.num_heads not in (None, size.num_heads):
        raise ValueError(f"num_heads: the source has {source.num_heads}, {variant} {size.num_heads}")
    sizes = {**dataclasses.asdict(size), "image_size": image_size, "layer_norm_eps": source.layer_norm_eps}
    if decoder:
        return MaeFacts(variant, **sizes, **_decoder_sizes(source))
    pool = source.pool if pool is None else pool
    if pool not in POOLS:
        raise ValueError(f"pool {pool!r}: must be one of {POOLS}")
    num_classes = source.num_classes if pool == source.pool else 0
    return VitFacts(variant, **sizes, pool=pool, posemb="learned", num_classes=num_classes)


def _decoder_sizes(source: Source) -> dict[str, int]:
    if source.decoder is None or source.decoder_num_heads is None:
        raise ValueError(f"{source.kind}: has no decoder to continue pre-training with")
    shapes, norm = source.tensors.shapes, str(source.decoder["blocks/norm1/scale"])
    return {
        "decoder_width": shapes[str(source.decoder["embed/bias"])][0],
        "decoder_depth": sum(norm.replace(BLOCK, str(block)) in shapes for block in range(len(shapes))),
        "decoder_num_heads": source.decoder_num_heads,
    }


def _vit_resizers(facts: VitFacts) -> Mapping[str, Resizer]:
    def resize_posemb(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(posemb.resize(jnp.asarray(array), facts.grid_size))

    return {"posemb": Resizer(axes=(1,), apply=resize_posemb), "patch_embed/kernel": _PATCH_RESIZER}


def _mae_target(source: Source, facts: MaeFacts) -> Target:
    for name, width in zip(source.fixed_tables, (facts.width, facts.decoder_width), strict=True):
        _check_fixed_table(source, name, width)
    decoder = source.decoder or {}
    return Target(
        shapes=param_shapes(facts),
        table={**_under("encoder", source.table), **_under("decoder", decoder)},
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
