"""Decide what an import into a ViT or MAE becomes: what is resized, made anew or left over."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models import families, posemb
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder, ModelSpec
from semivit_jax.models.vit import VIT_SIZES, grid_size
from semivit_jax.weights import layout, vit_names
from semivit_jax.weights.exchange import HEAD, Wanted
from semivit_jax.weights.fill import Resizer, Target
from semivit_jax.weights.sources import Source
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.vit_grid import distance_from_sincos

FIXED_TABLE_TOLERANCE = 1e-5  # the published tables are float32, with values in -1..1

FRESH_NORMS = {
    f"{norm}/{leaf}": value for norm in ("norm", "fc_norm") for leaf, value in (("scale", 1.0), ("bias", 0.0))
}
_EXPENDABLE = (
    (r"(layer|fc_)?norm\.", "final norm of the other pooling"),
    (r"(head|classifier)\.(weight|bias)$", "head on the other pooling"),
    (r"((dino|ibot)_)?head\.", "projection head of the pre-training"),
    (r"Transformer/encoder_norm/", "final norm of the other pooling"),
    (r"pre_logits/", "a layer before the head: left out, and the head with it"),
    (r"head/", "head on the other pooling, or behind pre_logits"),
    (r"pooler\.", "made for a pre-training task, not read by classifiers"),
    (r"(embeddings\.)?mask_token$", "used in pre-training only"),
    (r"decoder(_|\.)", "decoder of the pre-training: imported with --decoder"),
)
_FIXED_TABLES = (
    r".*(pos_embed|position_embeddings)$",
    "frozen sin-cos table: the model has it as a constant",
)


def spec(source: Source, wanted: Wanted) -> ModelSpec:
    """The model of the wanted variant; its head is the source's where it reads the same pool.

    Raises:
      ValueError: a size that does not fit the source's heads, an unknown pool, no decoder.
    """
    size = VIT_SIZES[wanted.variant]
    if source.size.get("num_heads", size.num_heads) != size.num_heads:
        raise ValueError(f"num_heads: the source has {source.size['num_heads']}, {wanted.variant} {size.num_heads}")
    pool, pools = wanted.pool or source.pool or "cls", families.FAMILIES["vit"].legal["pool"]
    if pool not in pools and not wanted.decoder:
        raise ValueError(f"pool {pool!r}: must be one of {pools}")
    encoder = ModelSpec(
        family="vit",
        variant=wanted.variant,
        size=size,
        image_size=wanted.image_size,
        layer_norm_eps=source.beside.layer_norm_eps,
        pool=pool,
        posemb="learned",
        num_classes=source.num_classes if pool == (source.pool or "cls") else 0,
        decoder=None,
    )
    return with_decoder(encoder, _decoder(source)) if wanted.decoder else encoder


def _decoder(source: Source) -> Decoder:
    if source.decoder is None or source.decoder_num_heads is None:
        raise ValueError(f"{source.kind}: has no decoder to continue pre-training with")
    stored, norm = source.tensors.shapes, str(source.decoder["blocks/norm1/scale"])
    bias = str(source.decoder["embed/bias"])
    if not stored.get(bias):
        raise ValueError(f"the source lacks {bias}, or it is a single number: the width of its decoder is not known")
    return Decoder(
        width=stored[bias][0],
        depth=sum(norm.replace(layout.BLOCK, str(block)) in stored for block in range(len(stored))),
        num_heads=source.decoder_num_heads,
    )


def target(source: Source, spec: ModelSpec) -> Target:
    """Position embeddings and patch kernels are resized, norms and heads of another pooling start anew.

    Raises:
      ValueError: the decoder is wanted, but the frozen position embeddings are not the sin-cos tables.
    """
    if spec.decoder is not None:
        return _mae_target(source, spec)
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers=_resizers(source, spec),
        fresh=FRESH_NORMS,
        drawn=() if spec.num_classes else HEAD,
        expendable=_EXPENDABLE,
    )


def _mae_target(source: Source, spec: ModelSpec) -> Target:
    table = layout.autoencoder_table(source.table, source.decoder or {})
    for path, array in constants(spec).items():
        _check_fixed_table(source.tensors, str(table[path]), width=array.shape[2])
    return Target(
        shapes=families.shapes(spec),
        table=table,
        resizers={"encoder/patch_embed/kernel": _PATCH_RESIZER},
        fresh={},
        drawn=(),
        expendable=(*_EXPENDABLE, _FIXED_TABLES),
    )


def constants(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Frozen position embeddings, by the paths that learned ones would have."""

    def table(width: int) -> np.ndarray:
        return posemb.sincos(width, grid_size(spec))[None].astype(np.float32)

    if spec.decoder is not None:
        return {"encoder/posemb": table(spec.size.width), "decoder/posemb": table(spec.decoder.width)}
    return {"posemb": table(spec.size.width)} if spec.posemb == "sincos" else {}


def _check_fixed_table(tensors: Tensors, name: str, *, width: int) -> None:
    """Of the image size that is stored: the model computes its own."""
    if len(tensors.shapes.get(name, ())) != 3:
        raise ValueError(f"the source lacks {name}, or it is no (1, rows, width): pre-training cannot be continued")
    stored = tensors.read(name)
    if stored.shape[2] != width or not distance_from_sincos(stored) <= FIXED_TABLE_TOLERANCE:
        raise ValueError(
            f"{name} of shape {stored.shape} is not the sin-cos table of width {width} that the MAE "
            "here has as a constant: its pre-training cannot be continued"
        )


def _resizers(source: Source, spec: ModelSpec) -> Mapping[str, Resizer]:
    rule, who = _posemb_rule(source)

    def resize_posemb(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(posemb.resize(jnp.asarray(array), grid_size(spec), rule))

    note = f"resized as {who} does ({rule})"
    return {"posemb": Resizer(axes=(1,), apply=resize_posemb, note=note), "patch_embed/kernel": _PATCH_RESIZER}


def _posemb_rule(source: Source) -> tuple[str, str]:
    """The row of `posemb.RESIZES` by which the source's own library fits its table to other images, and whose it is.

    DINOv2's authors, timm and transformers each have their own for DINOv2; its mark is LayerScale, and that of a file
    of its authors the token that stands for masked patches. Everything else is resized as MAE is.
    """
    shapes, has_registers = source.tensors.shapes, str(source.table.get("register_tokens")) in source.tensors.shapes
    gamma = str(source.table.get("blocks/ls1/gamma")).replace(layout.BLOCK, "0")
    if gamma not in shapes:
        return "plain", "MAE's fine-tuning"
    if str(source.table["posemb"]) == vit_names.HUGGING_FACE_DINOV2["posemb"]:
        return ("antialiased" if has_registers else "plain"), "transformers"
    if "mask_token" not in shapes:
        return "antialiased", "timm"
    return ("antialiased" if has_registers else "offset"), "DINOv2's own code"


def resize_patch_kernel(kernel: np.ndarray, patch_size: int) -> np.ndarray:
    """Resizes a patch kernel without rescaling its values, as the published fine-tuning code does.

    Cubic with a = -0.75, half-pixel centres and no antialiasing: the resize of position embeddings.

    Args:
      kernel: (p, p, 3, width).
      patch_size: side wanted.

    Returns:
      (patch_size, patch_size, 3, width), same dtype.
    """
    shape = (patch_size, patch_size, *kernel.shape[2:])
    return np.asarray(jax.image.resize(kernel, shape, method="cubic-pytorch", antialias=False))


_PATCH_RESIZER = Resizer(
    axes=(0, 1),
    apply=lambda kernel, shape: resize_patch_kernel(kernel, shape[0]),
    note="resized as MAE's fine-tuning does its position embedding (plain)",
)
