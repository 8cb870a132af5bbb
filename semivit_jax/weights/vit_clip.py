"""Translate CLIP's image towers from and to other libraries; text towers and projections are left over."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models import clip, families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_grid, vit_out, vit_relatives
from semivit_jax.weights.exchange import HEAD, Exchange, Timm, as_they_are
from semivit_jax.weights.fill import Target
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.preprocessors import get, is_section
from semivit_jax.weights.public import Public
from semivit_jax.weights.sources import (
    UNSAID,
    Beside,
    Configs,
    Source,
    beside_hugging_face,
    beside_timm,
    model_type,
    timm_config,
    tower_configs,
)
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.vit_target import FRESH_NORMS
from semivit_jax.weights.vit_tower_names import CLIP_HUGGING_FACE, CLIP_OPENAI, CLIP_TIMM

MODEL_TYPES = ("clip", "clip_vision_model")
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's own preprocessing
_PUBLISHED = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": 12, "image_size": 224}
_ACTIVATIONS = ("quick_gelu", "gelu")  # transformers, timm and we call them the same


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """Hugging Face's model types; timm's ViT with a norm before its blocks; OpenAI's names, which OpenCLIP shares."""
    kind, shapes = model_type(configs), tensors.shapes
    if kind in MODEL_TYPES:
        source = _hugging_face_source(tensors, configs)
    elif kind:
        return None
    elif {"patch_embed.proj.weight", "norm_pre.weight"} <= shapes.keys():
        source = _timm_source(tensors, configs)
    elif "visual.class_embedding" in shapes:
        source = _openai_source(tensors)
    else:
        return None
    beside = vit_relatives.seen_as_trained(source.beside, _MEAN, _STD, "OpenAI's CLIP")
    return vit_grid.with_image_size(dataclasses.replace(source, beside=beside))


def _hugging_face_source(tensors: Tensors, configs: Configs) -> Source:
    configs = tower_configs(configs, _PUBLISHED)
    config = configs["config.json"]
    if config["hidden_act"] not in _ACTIVATIONS:
        raise ValueError(f"hidden_act {config['hidden_act']!r}: a CLIP here has one of {', '.join(_ACTIVATIONS)}")
    return Source(
        kind=f"Hugging Face {model_type(configs)}",
        family="clip",
        tensors=_with_batch_axes(tensors.without_prefix("vision_model."), CLIP_HUGGING_FACE),
        table=CLIP_HUGGING_FACE,
        decoder=None,
        decoder_num_heads=None,
        pool="cls",
        size={"num_heads": config["num_attention_heads"], "mlp": config["hidden_act"]},
        image_size=None,
        beside=beside_hugging_face(configs, activation=config["hidden_act"]),
    )


def _openai_source(tensors: Tensors) -> Source:
    """The activation stands in no tensor: OpenAI's is the quick one, most of OpenCLIP's the exact one."""
    return Source(
        kind="CLIP in OpenAI's layout",
        family="clip",
        tensors=_with_batch_axes(tensors, CLIP_OPENAI),
        table=CLIP_OPENAI,
        decoder=None,
        decoder_num_heads=None,
        pool="cls",
        size={},
        image_size=None,
        beside=Beside(clip.LAYER_NORM_EPS, IMAGENET_224, UNSAID, None, ()),
    )


def _timm_source(tensors: Tensors, configs: Configs) -> Source:
    config, pool = timm_config(configs), "mean" if "fc_norm.weight" in tensors.shapes else "cls"
    told = config.get("global_pool")
    if told not in (None, vit_out.TIMM_POOLS[pool]):
        raise ValueError(f"global_pool {told!r}: the CLIPs here pool 'avg' before fc_norm, or 'token' after norm")
    beside = dataclasses.replace(beside_timm(configs), layer_norm_eps=clip.LAYER_NORM_EPS)
    left_out = HEAD if _is_projected(tensors, beside) else ()
    return Source(
        kind="CLIP in timm's layout",
        family="clip",
        tensors=tensors,
        table={path: name for path, name in CLIP_TIMM.items() if path not in left_out},
        decoder=None,
        decoder_num_heads=None,
        pool=pool,
        size=_timm_mlp(config),
        image_size=None,
        beside=beside,
    )


def _timm_mlp(config: Mapping[str, Any]) -> dict[str, str]:
    """The activation, by an argument or by the architecture's name; nothing tells it without a config."""
    if not config:
        return {}
    quick = "quickgelu" in str(config.get("architecture"))
    arguments = get(config, "model_args", is_section, "an object", {})
    word = arguments.get("act_layer") or ("quick_gelu" if quick else "gelu")
    if word not in _ACTIVATIONS:
        raise ValueError(f"act_layer {word!r}: a CLIP here has one of {', '.join(_ACTIVATIONS)}")
    return {"mlp": word}


def _is_projected(tensors: Tensors, beside: Beside) -> bool:
    """Whether timm's head is CLIP's projection, which it gives a bias of zeros; a classifier has learned one."""
    if beside.class_names or "head.bias" not in tensors.shapes:
        return False
    return not tensors.read("head.bias").any()


def _with_batch_axes(tensors: Tensors, table: Table) -> Tensors:
    """Class token (width,) and position embedding (rows, width) with the axes that ours have in front."""
    for path, ndim in (("cls_token", 1), ("posemb", 2)):
        name = str(table[path])
        shape = tensors.shapes.get(name, ())
        if len(shape) == ndim:
            tensors = tensors.replaced(name, (*(1,) * (3 - ndim), *shape), _reshaped(tensors, name))
    return tensors


def _reshaped(tensors: Tensors, name: str):
    shape = tensors.shapes[name]
    return lambda: tensors.read(name).reshape(*(1,) * (3 - len(shape)), *shape)


def target(source: Source, spec: ModelSpec) -> Target:
    """The position embedding is resized as the source's library does; a norm of the other pooling starts anew."""
    rule = ("plain", "transformers") if source.table is CLIP_HUGGING_FACE else ("antialiased", "timm and OpenCLIP")
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={"posemb": vit_relatives.posemb_resizer(spec, *rule, class_rows=1)},
        fresh=FRESH_NORMS,
        drawn=() if spec.num_classes else HEAD,
        expendable=(
            (r"(fc_)?norm\.|visual\.ln_post\.|post_layernorm\.", "final norm of the other pooling"),
            (r"visual\.proj$|visual_projection\.", "projection to the space of images and texts: not read by a head"),
            (r"head\.", "projection to the space of images and texts, or a head on the other pooling"),
            (r"classifier\.", "reads a mean of patches without a norm, which no model here computes"),
            (r"text|token_embedding|transformer\.|positional_embedding|ln_final|logit_", "of the tower of texts"),
            (r".*position_ids$", "numbers of the patches, no weight"),
        ),
    )


def timm(spec: ModelSpec) -> Timm:
    """VisionTransformer of timm, as it builds CLIP."""
    size, quick = spec.size, "quickgelu_" if spec.size.mlp == "quick_gelu" else ""
    return Timm(
        architecture=f"vit_base_patch16_clip_{quick}224",
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": size.mlp_dim / size.width,
            "global_pool": vit_out.TIMM_POOLS[spec.pool],
        },
        num_features=size.width,
        global_pool=vit_out.TIMM_POOLS[spec.pool],
        fixed_input_size=True,
        pool_size=None,
        first_conv="patch_embed.proj",
        classifier="head",
        layer_norm_eps=clip.LAYER_NORM_EPS,
        arrays=as_they_are,
    )


_LAION = "laion/CLIP-ViT-"
PUBLIC: Mapping[str, tuple[Public, ...]] = {
    "clip_b32": (Public(f"{_LAION}B-32-laion2B-s34B-b79K"), Public("timm/vit_base_patch32_clip_224.laion2b")),
    "clip_b32_quick": (Public("openai/clip-vit-base-patch32"),),
    "clip_b16": (Public(f"{_LAION}B-16-laion2B-s34B-b88K"), Public("timm/vit_base_patch16_clip_224.laion2b")),
    "clip_b16_quick": (Public("openai/clip-vit-base-patch16"),),
    "clip_l14": (Public(f"{_LAION}L-14-laion2B-s32B-b82K"), Public("timm/vit_large_patch14_clip_224.laion2b")),
    "clip_l14_quick": (Public("openai/clip-vit-large-patch14"), Public("openai/clip-vit-large-patch14-336")),
}

EXCHANGE = Exchange(
    known=("CLIP of timm, OpenAI and OpenCLIP", *(f"Hugging Face {kind}" for kind in MODEL_TYPES)),
    public=PUBLIC,
    model_types=MODEL_TYPES,
    recognise=recognise,
    measured=vit_relatives.measured,
    adapted=lambda source, spec: (source.tensors, ()),
    spec=vit_relatives.spec,
    target=target,
    names=lambda spec: CLIP_TIMM,
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=lambda spec: None,
    onnx=None,
)
