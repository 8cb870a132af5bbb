"""Translate ViTs and masked autoencoders from and to other libraries."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_google, vit_grid, vit_names, vit_onnx, vit_out, vit_refined, vit_target
from semivit_jax.weights.account import Row, Status
from semivit_jax.weights.exchange import Exchange
from semivit_jax.weights.fold import fold_layer_scale
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessors import get, is_count, is_section
from semivit_jax.weights.sources import Configs, Source, beside_hugging_face, beside_timm, model_type, timm_config
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.vit_public import PUBLIC
from semivit_jax.words import counted

MODEL_TYPES = ("vit", "vit_mae", "dinov2", "dinov2_with_registers")
DINOV2_TYPES = ("dinov2", "dinov2_with_registers")
_HUGGING_FACE = tuple(f"Hugging Face {kind}" for kind in MODEL_TYPES)
PUBLISHED_DECODER_HEADS = 16  # of every published MAE decoder (He et al. 2022, table 1 and section 4)


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """timm's names, which MAE, DINO, DINOv2 and Semi-ViT share, Hugging Face's, MIM-Refiner's and Google's."""
    refined = vit_refined.is_refined(tensors)
    if model_type(configs):
        source = _hugging_face_source(tensors, configs) if model_type(configs) in MODEL_TYPES else None
    elif refined:
        source = _timm_source(vit_refined.as_timm_names_them(tensors), configs)
        source = dataclasses.replace(source, kind="MIM-Refiner's ViT")
    elif "patch_embed.proj.weight" in tensors.shapes:
        source = _timm_source(tensors.renamed(_as_timm_names_it), configs)
    else:
        source = vit_google.recognise(tensors)
    if source is None:
        return None
    source = vit_grid.with_image_size(source)
    if not refined and vit_grid.is_masked_encoder(source):  # what refines trains the class token
        source = dataclasses.replace(source, pool=None)
    # Hugging Face's DINOv2 resizes its embedding to each image: its preprocessor rightly says another size.
    return dataclasses.replace(source, image_size=None) if model_type(configs) in DINOV2_TYPES else source


def _as_timm_names_it(name: str) -> str:
    """What timm calls a tensor of DINOv2's authors.

    They train the blocks in chunks, `blocks.CHUNK.BLOCK.`, where the blocks are numbered throughout.
    """
    name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
    name = re.sub(r"\.mlp\.w12\.", ".mlp.fc1.", re.sub(r"\.mlp\.w3\.", ".mlp.fc2.", name))
    return "reg_token" if name == "register_tokens" else name


def _timm_source(tensors: Tensors, configs: Configs) -> Source:
    _refuse_unrepresentable(tensors)
    has_decoder = "decoder_embed.weight" in tensors.shapes
    pool = "mean" if "fc_norm.weight" in tensors.shapes else "cls"
    config = timm_config(configs)
    told = config.get("global_pool")
    if told is not None and told != vit_out.TIMM_POOLS[pool]:
        raise ValueError(
            f"global_pool {told!r} with {'fc_norm' if pool == 'mean' else 'norm'}: "
            "the models here pool 'avg' before fc_norm, or 'token' after norm"
        )
    return Source(
        kind="MAE with decoder" if has_decoder else "ViT in timm's layout",
        family="vit",
        tensors=tensors,
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
    kind, config, beside = model_type(configs), configs["config.json"], beside_hugging_face(configs, activation="gelu")
    for prefix in ("vit.", "dinov2.", "dinov2_with_registers."):
        tensors = tensors.without_prefix(prefix)
    tensors = tensors.renamed(lambda name: name.replace(".weights_in.", ".fc1.").replace(".weights_out.", ".fc2."))
    _refuse_unrepresentable(tensors)
    has_decoder = "decoder.decoder_embed.weight" in tensors.shapes
    table = vit_names.HUGGING_FACE
    if kind in DINOV2_TYPES:
        tensors, table = _dinov2_head(tensors)
    return Source(
        kind=f"Hugging Face {kind}",
        family="vit",
        tensors=tensors,
        table=table,
        decoder=vit_names.HUGGING_FACE_DECODER if has_decoder else None,
        decoder_num_heads=_heads(config, "decoder_num_attention_heads") if has_decoder else None,
        pool="cls",
        size={"num_heads": _heads(config, "num_attention_heads")},
        image_size=None,
        beside=beside,
    )


def _dinov2_head(tensors: Tensors) -> tuple[Tensors, Table]:
    """Their classifier reads the class token beside the mean of the patches: ours, where it leaves the mean alone."""
    name = "classifier.weight"
    classes, values = tensors.shapes.get(name, ()) or (0, 0)
    width = values // 2
    if not classes or tensors.read(name)[:, width:].any():
        return tensors, vit_names.HUGGING_FACE_DINOV2
    halved = tensors.replaced(name, (classes, width), lambda: tensors.read(name)[:, :width])
    return halved, vit_names.HUGGING_FACE_DINOV2_CLASSIFIER


def _heads(config: Mapping[str, Any], key: str) -> int:
    if not is_count(heads := config[key]):
        raise ValueError(f"{key} {heads!r}: expected a whole number of at least 1")
    return heads


def _refuse_unrepresentable(tensors: Tensors) -> None:
    """Refuses, by name, variants whose tensors would otherwise only look like left-overs."""
    for name in tensors.shapes:
        if name in ("dist_token", "embeddings.distillation_token"):
            raise ValueError(f"{name}: models with a distillation token (DeiT) are not supported, take the plain one")
        if "mlp.fc1_g" in name:
            raise ValueError(f"{name}: MLPs whose gate is a layer of its own (EVA) are not supported")
    fc1, fc2 = (tensors.shapes.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    is_dinov2 = any("ls1.gamma" in name for name in tensors.shapes)
    if fc1 and fc2 and fc1[:1] != fc2[1:] and not (is_dinov2 and fc1[:1] == (2 * fc2[-1],)):
        raise ValueError(
            f"blocks.0.mlp: fc1 gives {fc1[0]} values and fc2 takes {fc2[-1]}: of gated MLPs only the SwiGLU of DINOv2 "
            "giant, which comes with LayerScale, is supported"
        )


def adapted(source: Source, spec: ModelSpec) -> tuple[Tensors, tuple[Row, ...]]:
    """The source's tensors, its LayerScale folded into the layers before where the model has none.

    Raises:
      ValueError: another number of registers than the model has.
    """
    stored, wanted = _registers(source), spec.size.registers
    if stored != wanted:
        raise ValueError(
            f"the source has {counted(stored, 'register')}, {spec.variant} {wanted or 'none'}: leave --model away"
        )
    gammas = {layer: f"blocks/{gamma}" for layer, gamma in vit_names.LAYER_SCALE.items()}
    if spec.size.layer_scale or not set(gammas.values()) <= source.table.keys():
        return source.tensors, ()
    layers = {
        str(source.table[f"blocks/{layer}/bias"]).removesuffix(".bias"): str(source.table[gamma])
        for layer, gamma in gammas.items()
    }
    tensors = fold_layer_scale(source.tensors, layers)
    names = tuple(name for name in source.tensors.shapes if name not in tensors.shapes)
    note = "layer scale, folded into attn/proj and mlp/fc2"
    return tensors, (Row(Status.LOADED, "blocks", names, None, None, note),) if names else ()


def _registers(source: Source) -> int:
    shape = source.tensors.shapes.get(str(source.table.get("register_tokens")), ())
    return shape[1] if len(shape) == 3 else 0


def measured(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """All but the heads, which leave no trace in the shapes."""
    depth, hidden = shapes["blocks/mlp/fc1/bias"]
    mlp_dim = shapes["blocks/mlp/fc2/kernel"][1]
    return {
        "patch_size": shapes["patch_embed/kernel"][0],
        "width": shapes["patch_embed/bias"][0],
        "depth": depth,
        "mlp_dim": mlp_dim,
        "mlp": "swiglu" if hidden == 2 * mlp_dim else "gelu",
        "layer_scale": "blocks/ls1/gamma" in shapes,
        "registers": shapes.get("register_tokens", (1, 0))[1],
    }


EXCHANGE = Exchange(
    known=(
        "MAE",
        "timm's ViT",
        "DINO",
        "DINOv2",
        "Semi-ViT",
        "MIM-Refiner",
        "Google's .npz",
        *(f"Hugging Face {t}" for t in MODEL_TYPES),
    ),
    public=PUBLIC,
    model_types=MODEL_TYPES,
    recognise=recognise,
    measured=measured,
    adapted=adapted,
    spec=vit_target.spec,
    target=vit_target.target,
    names=lambda spec: vit_names.TIMM,
    decoder_names=vit_names.TIMM_DECODER,
    constants=vit_target.constants,
    timm=vit_out.timm,
    hugging_face=vit_out.hugging_face,
    onnx=vit_onnx.features,
)
