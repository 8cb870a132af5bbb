"""Translate ViTs and masked autoencoders from and to other libraries."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_google, vit_grid, vit_names, vit_onnx, vit_target
from semivit_jax.weights.account import Row, Status
from semivit_jax.weights.exchange import Exchange, HuggingFace, Timm
from semivit_jax.weights.fold import fold_layer_scale
from semivit_jax.weights.preprocessors import get, is_count, is_section
from semivit_jax.weights.sources import Configs, Source, beside_hugging_face, beside_timm, model_type, timm_config
from semivit_jax.weights.tensors import Tensors

MODEL_TYPES = ("vit", "vit_mae", "dinov2")
PUBLISHED_DECODER_HEADS = 16  # of every published MAE decoder (He et al. 2022, table 1 and section 4)

_TIMM_POOLS = {"mean": "avg", "cls": "token"}
# The architecture says which function builds the model; its sizes are spelled out in `model_args`.
_TIMM_ARCHITECTURES = {
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_h14": "vit_huge_patch14_224",
}


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """timm's names, which MAE, DINO, DINOv2 and Semi-ViT share, Hugging Face's of `MODEL_TYPES`, and Google's."""
    if model_type(configs):
        source = _hugging_face_source(tensors, configs) if model_type(configs) in MODEL_TYPES else None
    elif "patch_embed.proj.weight" in tensors.shapes:
        source = _timm_source(tensors.renamed(_without_chunk), configs)
    else:
        source = vit_google.recognise(tensors)
    if source is None:
        return None
    source = vit_grid.with_image_size(source)
    # Hugging Face's DINOv2 resizes its embedding to each image: its preprocessor rightly says another size.
    return dataclasses.replace(source, image_size=None) if model_type(configs) == "dinov2" else source


def _without_chunk(name: str) -> str:
    """DINOv2 trains its blocks in chunks, `blocks.CHUNK.BLOCK.`, where the blocks are numbered throughout."""
    return re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)


def _timm_source(tensors: Tensors, configs: Configs) -> Source:
    _refuse_unrepresentable(tensors)
    folded = fold_layer_scale(tensors, vit_names.TIMM_LAYER_SCALE)
    has_decoder = "decoder_embed.weight" in tensors.shapes
    pool = "mean" if "fc_norm.weight" in tensors.shapes else "cls"
    config = timm_config(configs)
    told = config.get("global_pool")
    if told is not None and told != _TIMM_POOLS[pool]:
        raise ValueError(
            f"global_pool {told!r} with {'fc_norm' if pool == 'mean' else 'norm'}: "
            "the models here pool 'avg' before fc_norm, or 'token' after norm"
        )
    return Source(
        kind="MAE with decoder" if has_decoder else "ViT in timm's layout",
        family="vit",
        tensors=folded,
        folded=_folded(tensors, folded),
        table=vit_names.TIMM,
        decoder=vit_names.TIMM_DECODER if has_decoder else None,
        decoder_num_heads=PUBLISHED_DECODER_HEADS if has_decoder else None,
        pool=pool,
        size=_timm_heads(config),
        image_size=None,
        beside=beside_timm(configs),
    )


def _timm_heads(config: Mapping) -> dict[str, int]:
    """Heads, where the config spells them out; usually the architecture's name alone tells."""
    arguments = get(config, "model_args", is_section, "an object", {})
    return {"num_heads": _heads(arguments, "num_heads")} if "num_heads" in arguments else {}


def _hugging_face_source(tensors: Tensors, configs: Configs) -> Source:
    kind, config, beside = model_type(configs), configs["config.json"], beside_hugging_face(configs)
    tensors = tensors.without_prefix("vit.").without_prefix("dinov2.")
    _refuse_unrepresentable(tensors)
    folded = fold_layer_scale(tensors, vit_names.HUGGING_FACE_LAYER_SCALE)
    has_decoder = "decoder.decoder_embed.weight" in tensors.shapes
    return Source(
        kind=f"Hugging Face {kind}",
        family="vit",
        tensors=folded,
        folded=_folded(tensors, folded),
        table=vit_names.HUGGING_FACE_DINOV2 if kind == "dinov2" else vit_names.HUGGING_FACE,
        decoder=vit_names.HUGGING_FACE_DECODER if has_decoder else None,
        decoder_num_heads=_heads(config, "decoder_num_attention_heads") if has_decoder else None,
        pool="cls",
        size={"num_heads": _heads(config, "num_attention_heads")},
        image_size=None,
        beside=beside,
    )


def _heads(config: Mapping[str, Any], key: str) -> int:
    if not is_count(heads := config[key]):
        raise ValueError(f"{key} {heads!r}: expected a whole number of at least 1")
    return heads


def _folded(tensors: Tensors, folded: Tensors) -> tuple[Row, ...]:
    names = tuple(name for name in tensors.shapes if name not in folded.shapes)
    note = "layer scale, folded into attn/proj and mlp/fc2"
    return (Row(Status.LOADED, "blocks", names, None, None, note),) if names else ()


def _refuse_unrepresentable(tensors: Tensors) -> None:
    """Refuses, by name, variants whose tensors would otherwise only look like left-overs."""
    for name in tensors.shapes:
        if "register_token" in name or name == "reg_token":
            raise ValueError(
                f"{name}: register tokens (DINOv2 with registers) are not supported, take the plain variant"
            )
        if name in ("dist_token", "embeddings.distillation_token"):
            raise ValueError(f"{name}: models with a distillation token (DeiT) are not supported, take the plain one")
        if any(part in name for part in ("mlp.w12", "mlp.weights_in", "mlp.fc1_g")):
            raise ValueError(f"{name}: SwiGLU MLPs (DINOv2 giant) are not supported, take the S, B or L variant")
    fc1, fc2 = (tensors.shapes.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    if fc1 and fc2 and fc1[:1] != fc2[1:]:
        raise ValueError(
            f"blocks.0.mlp: fc1 gives {fc1[0]} values and fc2 takes {fc2[-1]}: gated MLPs such as SwiGLU "
            "(DINOv2 giant) are not supported, take the S, B or L variant"
        )


def measured(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """Patches, width, depth and the MLP; heads leave no trace in the shapes."""
    depth, mlp_dim = shapes["blocks/mlp/fc1/bias"]
    return {
        "patch_size": shapes["patch_embed/kernel"][0],
        "width": shapes["patch_embed/bias"][0],
        "depth": depth,
        "mlp_dim": mlp_dim,
    }


def timm(spec: ModelSpec) -> Timm:
    """VisionTransformer of timm."""
    size = spec.size
    return Timm(
        architecture=_TIMM_ARCHITECTURES.get(spec.variant, "vit_base_patch16_224"),
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": size.mlp_dim / size.width,
            "global_pool": _TIMM_POOLS[spec.pool],
        },
        num_features=size.width,
        global_pool=_TIMM_POOLS[spec.pool],
        fixed_input_size=True,
        pool_size=None,
        first_conv="patch_embed.proj",
        classifier="head",
    )


def hugging_face(spec: ModelSpec) -> HuggingFace | None:
    """ViTForImageClassification, which reads the class token; mean pooling has no class of its own there."""
    if spec.pool != "cls":
        return None
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": spec.size.width,
        "num_hidden_layers": spec.size.depth,
        "num_attention_heads": spec.size.num_heads,
        "intermediate_size": spec.size.mlp_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": spec.layer_norm_eps,
        "qkv_bias": True,
        "image_size": spec.image_size,
        "patch_size": spec.size.patch_size,
        "num_channels": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return HuggingFace(config, vit_names.HUGGING_FACE, "vit.")


EXCHANGE = Exchange(
    known=("timm", "MAE", "DINO", "DINOv2", "Semi-ViT", "Google's .npz", "Hugging Face ViT", "ViTMAE", "Dinov2"),
    model_types=MODEL_TYPES,
    recognise=recognise,
    measured=measured,
    spec=vit_target.spec,
    target=vit_target.target,
    names=vit_names.TIMM,
    decoder_names=vit_names.TIMM_DECODER,
    constants=vit_target.constants,
    timm=timm,
    hugging_face=hugging_face,
    onnx=vit_onnx.features,
)
