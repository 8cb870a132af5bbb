"""Translate SigLIP's image towers from and to other libraries; text towers are left over."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from semivit_jax.models import families
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_relatives
from semivit_jax.weights.exchange import HEAD, Exchange, Timm, as_they_are
from semivit_jax.weights.fill import Target
from semivit_jax.weights.preprocessors import get, is_section
from semivit_jax.weights.public import Public
from semivit_jax.weights.sources import (
    Configs,
    Source,
    beside_hugging_face,
    beside_timm,
    model_type,
    timm_config,
    tower_configs,
)
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.vit_tower_names import JOINED, SIGLIP_HUGGING_FACE, SIGLIP_TIMM

MODEL_TYPES = ("siglip", "siglip_vision_model")
TIMM_POOLS = {"map": "map", "mean": "avg"}
_PUBLISHED = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": LAYER_NORM_EPS, "num_attention_heads": 12,
              "image_size": 224}  # fmt: skip
_MLPS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}  # Hugging Face's word for an activation -> ours
_TIMM_ACTIVATIONS = ("gelu_tanh", "gelu")  # called the same here
_TIMM_TANH = ("patch32_siglip", "giantopt_patch16_siglip")  # architectures of timm with the tanh form; others: exact
_HALF = (0.5, 0.5, 0.5)  # mean and std of its own preprocessing
_TRUNK = "visual.trunk."  # of timm's towers inside OpenCLIP's models


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """Hugging Face's model types, timm's ViTs that pool by attention or are called siglip, and those in OpenCLIP."""
    kind = model_type(configs)
    if kind in MODEL_TYPES:
        return _with_image_size(_hugging_face_source(tensors, configs))
    if kind:
        return None
    tensors = tensors.without_prefix(_TRUNK)
    called = "siglip" in str(timm_config(configs).get("architecture"))
    if "patch_embed.proj.weight" not in tensors.shapes or not (called or "attn_pool.latent" in tensors.shapes):
        return None
    return _with_image_size(_timm_source(tensors, configs))


def _hugging_face_source(tensors: Tensors, configs: Configs) -> Source:
    configs = tower_configs(configs, _PUBLISHED)
    config, tensors = configs["config.json"], _apart(tensors.without_prefix("vision_model."))
    activation = str(config["hidden_act"])
    if activation not in _MLPS:
        raise ValueError(f"hidden_act {activation!r}: a SigLIP here has one of {', '.join(_MLPS)}")
    posemb = str(SIGLIP_HUGGING_FACE["posemb"])
    shape = tensors.shapes.get(posemb, ())
    if len(shape) == 2:
        stored = tensors.read
        tensors = tensors.replaced(posemb, (1, *shape), lambda: stored(posemb)[None])
    return Source(
        kind=f"Hugging Face {model_type(configs)}",
        family="siglip",
        tensors=tensors,
        table=SIGLIP_HUGGING_FACE,
        decoder=None,
        decoder_num_heads=None,
        pool="mean" if "classifier.weight" in tensors.shapes else "map",
        size={"num_heads": config["num_attention_heads"], "mlp": _MLPS[activation]},
        image_size=None,
        beside=beside_hugging_face(configs, activation=activation),
    )


def _apart(tensors: Tensors) -> Tensors:
    """The query's third of the pooling's joined projection, and that of key and value."""
    parts: dict[str, tuple[str, slice]] = {}
    shapes = dict(tensors.shapes)
    for leaf in ("weight", "bias"):
        joined = f"{JOINED}_{leaf}"
        rows, *rest = shapes.pop(joined, ()) or (0,)
        if rows:
            for part, chosen in (("query", slice(rows // 3)), ("key, value", slice(rows // 3, rows))):
                name = f"{JOINED}({part}).{leaf}"
                parts[name], shapes[name] = (joined, chosen), (len(range(rows)[chosen]), *rest)

    def read(name: str) -> np.ndarray:
        if name not in parts:
            return tensors.read(name)
        joined, chosen = parts[name]
        return tensors.read(joined)[chosen]

    return Tensors(shapes, read)


def _timm_source(tensors: Tensors, configs: Configs) -> Source:
    config, pool = timm_config(configs), "map" if "attn_pool.latent" in tensors.shapes else "mean"
    told = config.get("global_pool")
    if told not in (None, TIMM_POOLS[pool]) or "fc_norm.weight" in tensors.shapes:
        raise ValueError(f"global_pool {told!r}: the SigLIPs here have a norm, and then pool by 'map' or 'avg'")
    return Source(
        kind="SigLIP in timm's layout",
        family="siglip",
        tensors=tensors,
        table=SIGLIP_TIMM,
        decoder=None,
        decoder_num_heads=None,
        pool=pool,
        size={"mlp": _timm_mlp(config)},
        image_size=None,
        beside=beside_timm(configs),
    )


def _timm_mlp(config: Mapping[str, Any]) -> str:
    tanh = any(name in str(config.get("architecture")) for name in _TIMM_TANH)
    arguments = get(config, "model_args", is_section, "an object", {})
    word = arguments.get("act_layer") or ("gelu_tanh" if tanh else "gelu")
    if word not in _TIMM_ACTIVATIONS:
        raise ValueError(f"act_layer {word!r}: a SigLIP here has one of {', '.join(_TIMM_ACTIVATIONS)}")
    return word


def _with_image_size(source: Source) -> Source:
    """The size that its position embedding, of patches alone, is for; and how its authors see, where nothing tells.

    Raises:
      ValueError: the patches form no square.
    """
    beside = vit_relatives.seen_as_trained(source.beside, _HALF, _HALF, "SigLIP")
    source = dataclasses.replace(source, beside=beside)
    name = str(source.table["posemb"])
    shape, kernel = (source.tensors.shapes.get(n, ()) for n in (name, str(source.table["patch_embed/kernel"])))
    if len(shape) != 3 or len(kernel) != 4:
        return source  # what is lacking is told with all that is
    side = math.isqrt(shape[1])
    if side**2 != shape[1]:
        raise ValueError(f"{name} has {shape[1]} rows: no square of patches")
    return dataclasses.replace(source, image_size=side * kernel[-1])


def target(source: Source, spec: ModelSpec) -> Target:
    """The position embedding is resized as the source's library does; nothing else may be lacking."""
    rule = ("plain", "transformers") if source.table is SIGLIP_HUGGING_FACE else ("antialiased", "timm")
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={"posemb": vit_relatives.posemb_resizer(spec, *rule, class_rows=0)},
        fresh={},
        drawn=() if spec.num_classes else HEAD,
        expendable=(
            (r"attn_pool\.|head\.(probe|attention|layernorm|mlp)", "attention pooling: the head reads a mean"),
            (r"(head|classifier)\.(weight|bias)$", "head on the other pooling"),
            (r"text|logit_|visual\.head\.", "of the tower of texts, or of the comparison with it"),
            (r".*position_ids$", "numbers of the patches, no weight"),
        ),
    )


def timm(spec: ModelSpec) -> Timm:
    """VisionTransformer of timm, as it builds SigLIP."""
    size, pool = spec.size, TIMM_POOLS[spec.pool]
    return Timm(
        architecture=f"vit_base_patch16_siglip_{'' if spec.pool == 'map' else 'gap_'}224",
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": (size.mlp_dim + 0.5) / size.width,  # rounded down there
            "act_layer": size.mlp,
            "global_pool": pool,
        },
        num_features=size.width,
        global_pool=pool,
        fixed_input_size=True,
        pool_size=None,
        first_conv="patch_embed.proj",
        classifier="head",
        layer_norm_eps=LAYER_NORM_EPS,
        arrays=as_they_are,
    )


def _public(size: str, pixels: int) -> dict[str, tuple[Public, ...]]:
    name = "siglip_" + {"base": "b16", "large": "l16", "so400m": "so400m14"}[size]
    patch = 14 if size == "so400m" else 16
    return {
        name: tuple(Public(f"google/{version}-{size}-patch{patch}-{pixels}") for version in ("siglip2", "siglip")),
        f"{name}_erf": (Public(f"timm/vit_{size}_patch{patch}_siglip_{pixels}.v2_webli"),),
    }


PUBLIC: Mapping[str, tuple[Public, ...]] = {
    **_public("base", 224),
    **_public("large", 256),
    **_public("so400m", 224),
}

EXCHANGE = Exchange(
    known=("SigLIP of timm", *(f"Hugging Face {kind}" for kind in MODEL_TYPES)),
    public=PUBLIC,
    model_types=MODEL_TYPES,
    recognise=recognise,
    measured=vit_relatives.measured,
    adapted=lambda source, spec: (source.tensors, ()),
    spec=vit_relatives.spec,
    target=target,
    names=lambda spec: SIGLIP_TIMM,
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=lambda spec: None,
    onnx=None,
)
