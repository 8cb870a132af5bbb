"""Translate DINOv3's ViTs from and to other libraries."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models import dinov3, families
from semivit_jax.models.layers import LAYER_SCALE_INIT
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit, vit_out, vit_relatives
from semivit_jax.weights.account import Row
from semivit_jax.weights.exchange import HEAD, Exchange, Timm, as_they_are
from semivit_jax.weights.fill import Target
from semivit_jax.weights.layout import BLOCK, Table, dense_rows, norm_rows
from semivit_jax.weights.public import DINOV3_LICENCE, Public
from semivit_jax.weights.sources import Configs, Source, beside_hugging_face, beside_timm, model_type, timm_config
from semivit_jax.weights.tensors import Tensors
from semivit_jax.words import counted

MODEL_TYPE = "dinov3_vit"
# What every published one has, by the keys of Hugging Face's config; with other values they compute otherwise.
_PUBLISHED = {"rope_theta": 100.0, "query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True,
              "mlp_bias": True}  # fmt: skip
_TIMM_POOLS = {pool: mean for mean, pool in vit_out.TIMM_POOLS.items()}


def _rows(block: str, gammas: str, fc1: tuple[str, ...], fc2: str) -> Table:
    """What all layouts have in common in a block; `gammas` has a place for the number."""
    table: dict[str, str | tuple[str, ...]] = {}
    for number in (1, 2):
        table |= norm_rows(f"blocks/norm{number}", f"{block}.norm{number}")
        table[f"blocks/ls{number}/gamma"] = f"{block}.{gammas.format(number)}"
    for ours, theirs in (("kernel", "weight"), ("bias", "bias")):
        names = tuple(f"{block}.mlp.{layer}.{theirs}" for layer in fc1)
        table[f"blocks/mlp/fc1/{ours}"] = names if len(fc1) > 1 else names[0]
    return table | dense_rows("blocks/mlp/fc2", f"{block}.mlp.{fc2}") | norm_rows("norm", "norm")


def hugging_face_names(*, gated: bool) -> Table:
    """DINOv3ViTModel, its layers without `model.` before them."""
    block = f"layer.{BLOCK}"
    attention = f"{block}.attention"
    return {
        **dense_rows("patch_embed", "embeddings.patch_embeddings"),
        "cls_token": "embeddings.cls_token",
        "register_tokens": "embeddings.register_tokens",
        "blocks/attn/qkv/kernel": tuple(f"{attention}.{part}_proj.weight" for part in "qkv"),
        "blocks/attn/query/bias": f"{attention}.q_proj.bias",
        "blocks/attn/value/bias": f"{attention}.v_proj.bias",
        **dense_rows("blocks/attn/proj", f"{attention}.o_proj"),
        **_rows(block, "layer_scale{}.lambda1", ("gate_proj", "up_proj") if gated else ("up_proj",), "down_proj"),
    }


def timm_names(*, gated: bool) -> Table:
    """timm's Eva, as it builds DINOv3."""
    block = f"blocks.{BLOCK}"
    return {
        **dense_rows("patch_embed", "patch_embed.proj"),
        "cls_token": "cls_token",
        "register_tokens": "reg_token",
        "blocks/attn/qkv/kernel": f"{block}.attn.qkv.weight",
        "blocks/attn/query/bias": f"{block}.attn.q_bias",
        "blocks/attn/value/bias": f"{block}.attn.v_bias",
        **dense_rows("blocks/attn/proj", f"{block}.attn.proj"),
        **_rows(block, "gamma_{}", ("fc1_g", "fc1_x") if gated else ("fc1",), "fc2"),
        **dense_rows("head", "head"),
    }


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """Hugging Face's model_type, and timm's Eva with registers and without a position embedding."""
    kind, shapes = model_type(configs), tensors.shapes
    if kind == MODEL_TYPE:
        return _hugging_face_source(tensors, configs)
    if kind or not {"blocks.0.gamma_1", "reg_token"} <= shapes.keys() or "pos_embed" in shapes:
        return None
    told = timm_config(configs).get("global_pool")
    if told not in (None, *_TIMM_POOLS):
        raise ValueError(f"global_pool {told!r}: must be one of {', '.join(_TIMM_POOLS)}")
    return Source(
        kind="DINOv3 in timm's layout",
        family="dinov3",
        tensors=tensors,
        table=timm_names(gated="blocks.0.mlp.fc1_g.weight" in shapes),
        decoder=None,
        decoder_num_heads=None,
        pool=_TIMM_POOLS[told] if told else "cls",
        size={},
        image_size=None,
        beside=dataclasses.replace(beside_timm(configs), layer_norm_eps=dinov3.LAYER_NORM_EPS),
    )


def _hugging_face_source(tensors: Tensors, configs: Configs) -> Source:
    config = configs["config.json"]
    for key, value in _PUBLISHED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} {config[key]!r}: the DINOv3 here computes with {value!r}")
    gated = bool(config["use_gated_mlp"])
    return Source(
        kind=f"Hugging Face {MODEL_TYPE}",
        family="dinov3",
        tensors=tensors.renamed(lambda name: name.removeprefix("model.")),
        table=hugging_face_names(gated=gated),
        decoder=None,
        decoder_num_heads=None,
        pool="cls",
        size={"num_heads": config["num_attention_heads"]},
        image_size=None,
        beside=beside_hugging_face(configs, activation="silu" if gated else "gelu"),
    )


def adapted(source: Source, spec: ModelSpec) -> tuple[Tensors, tuple[Row, ...]]:
    """The source's tensors as they are.

    Raises:
      ValueError: another number of registers than the model has.
    """
    stored = source.tensors.shapes.get(str(source.table["register_tokens"]), (1, 0))[1]
    if stored != spec.size.registers:
        raise ValueError(f"the source has {counted(stored, 'register')}, {spec.variant} {spec.size.registers}")
    return source.tensors, ()


def target(source: Source, spec: ModelSpec) -> Target:
    """Everything must fit; biases that distillation has left at zero, and timm therefore out, start there."""
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={},
        fresh={f"blocks/attn/{part}/bias": 0.0 for part in ("query", "value")},
        drawn=() if spec.num_classes else HEAD,
        expendable=(
            (r"(embeddings\.)?mask_token$", "used in pre-training only"),
            (r"head\.(weight|bias)$", "head on the other pooling"),
            (r"rope.*\.periods$", "of the turns: the model works them out"),
        ),
    )


def timm(spec: ModelSpec) -> Timm:
    """Eva of timm, as it builds DINOv3 with biases."""
    size, pool = spec.size, vit_out.TIMM_POOLS[spec.pool]
    gated = size.mlp == "swiglu"
    more: dict[str, Any] = {"swiglu_mlp": True, "swiglu_align_to": 8} if gated else {}
    return Timm(
        architecture="vit_small_patch16_dinov3_qkvb",
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": size.mlp_dim / size.width,
            "num_reg_tokens": size.registers,
            "init_values": LAYER_SCALE_INIT,
            "global_pool": pool,
            **more,
        },
        num_features=size.width,
        global_pool=pool,
        fixed_input_size=False,
        pool_size=None,
        first_conv="patch_embed.proj",
        classifier="head",
        layer_norm_eps=dinov3.LAYER_NORM_EPS,
        arrays=as_they_are,
    )


def _public(size: str, timms: str) -> tuple[Public, ...]:
    names = (f"facebook/dinov3-{size}-pretrain-lvd1689m", f"timm/vit_{timms}_patch16_dinov3.lvd1689m")
    return tuple(Public(name, DINOV3_LICENCE) for name in names)


PUBLIC: Mapping[str, tuple[Public, ...]] = {
    "dinov3_s16": _public("vits16", "small"),
    "dinov3_s16plus": _public("vits16plus", "small_plus"),
    "dinov3_b16": _public("vitb16", "base"),
    "dinov3_l16": _public("vitl16", "large"),
    "dinov3_h16plus": _public("vith16plus", "huge_plus"),
}

EXCHANGE = Exchange(
    known=("DINOv3 of timm", f"Hugging Face {MODEL_TYPE}"),
    public=PUBLIC,
    model_types=(MODEL_TYPE,),
    recognise=recognise,
    measured=vit.measured,
    adapted=adapted,
    spec=vit_relatives.spec,
    target=target,
    names=lambda spec: timm_names(gated=spec.size.mlp == "swiglu"),
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=lambda spec: None,
    onnx=None,
)
