"""Look up model families (the table FAMILIES); make specs from configs and networks from specs."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError, ModelConfig
from semivit_jax.models import bottleneck, clip, convnext, data2vec, dinov3, mae, siglip, vit
from semivit_jax.models.cost import Cost
from semivit_jax.models.mae import MaeOutput
from semivit_jax.models.parting import WHOLE, Parting
from semivit_jax.models.spec import PLAIN, Bottleneck, Compute, Family, ModelSpec
from semivit_jax.ops.optim import PathTable
from semivit_jax.words import counted

Params = Any
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (vit.FAMILY, dinov3.FAMILY, clip.FAMILY, siglip.FAMILY, data2vec.FAMILY, convnext.FAMILY)
}
CUDNN_MAX_HEAD_DIM = 128  # up to compute capability 8.x; 9.0 and later take 256, which no variant has


def variants(able: Callable[[Family], Any] = lambda family: True) -> tuple[str, ...]:
    """Names of all sizes, of the families that are able to do something, or of all."""
    return tuple(variant for family in FAMILIES.values() if able(family) for variant in family.sizes)


def of(variant: str) -> Family:
    """The family of a variant.

    Raises:
      ValueError: no family has it.
    """
    for family in FAMILIES.values():
        if variant in family.sizes:
            return family
    raise ValueError(f"model {variant!r}: must be one of {', '.join(variants())}")


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone with its head as pure functions.

    Attributes:
      init: key -> params, of the whole model.
      logits: (params, images, drop_path_masks or None) -> (batch, classes). Params are `Parts` where only some are
        trained, also in `features`.
      features: (params, images) -> what the head reads, (batch, width), evaluation mode.
      classify: (params, features) -> (batch, classes), by the head alone.
      drop_path_rates: rates of all branches; masks have this shape plus a last batch axis.
      lr_scales: (layer_decay, head_lr_scale) -> table of learning-rate factors.
      weight_decays: weight_decay -> table of weight decays.
      parting: which parameters are trained.
    """

    init: Callable[[jax.Array], Params]
    logits: Callable[[Params, jax.Array, jax.Array | None], jax.Array]
    features: Callable[[Params, jax.Array], jax.Array]
    classify: Callable[[Params, jax.Array], jax.Array]
    drop_path_rates: np.ndarray
    lr_scales: Callable[[float, float], PathTable]
    weight_decays: Callable[[float], PathTable]
    parting: Parting


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """MAE as pure functions: init(key) -> params, apply(params, images, noise) -> MaeOutput."""

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array, jax.Array], MaeOutput]
    patch_size: int
    num_patches: int
    weight_decays: Callable[[float], PathTable]


def describe(config: ModelConfig, *, image_size: int, num_classes: int) -> ModelSpec:
    """The model that a config names.

    Args:
      config: the model section.
      image_size: side of the input in pixels.
      num_classes: outputs; 0 for a model without head.

    Raises:
      ConfigError: the model cannot take images of this size.
    """
    family = of(config.variant)
    size = family.sizes[config.variant]
    if image_size % family.stride(size):
        needed = f"{config.variant} needs a multiple of its {family.stride_name} {family.stride(size)}"
        raise ConfigError(f"config.data.image_size is {image_size}; {needed}")
    return ModelSpec(
        family=family.name,
        variant=config.variant,
        size=size,
        image_size=image_size,
        layer_norm_eps=config.layer_norm_eps,
        pool=config.pool,
        posemb=config.posemb,
        num_classes=num_classes,
        decoder=None,
        head=config.head,
        bottleneck=_bottleneck(config),
    )


def _bottleneck(config: ModelConfig) -> Bottleneck | None:
    has_one = config.tune == "lora" and config.lora_kind == "bottleneck"
    return Bottleneck(config.lora_rank, config.bottleneck_scale) if has_one else None


def compute(config: ModelConfig, spec: ModelSpec, *, backend: str) -> Compute:
    """How a config has the model of `spec` compute on a jax backend, which decides what 'auto' means.

    Raises:
      ConfigError: an attention kernel is asked for that cannot run.
    """
    dtype = _dtype(config, backend)
    head_dims = FAMILIES[spec.family].head_dims(spec)
    obstacles = _cudnn_obstacles(backend, dtype, head_dims)
    if config.attention == "cudnn" and obstacles:
        raise ConfigError(f"config.model.attention is 'cudnn', but {' and '.join(obstacles)}; use 'auto' or 'xla'")
    cudnn = config.attention != "xla" and bool(head_dims) and not obstacles
    return Compute(
        dtype=dtype,
        attention="cudnn" if cudnn else "xla",
        remat=config.remat,
        unroll=config.unroll,
        head_init_std=config.head_init_std,
    )


def network(spec: ModelSpec, compute: Compute, drop_path_rate: float) -> Network:
    """The classifier of `spec` as pure functions; drop_path_rate is the rate of its last block."""
    family, size = FAMILIES[spec.family], spec.size
    model, example = family.module(spec, compute), jnp.zeros((1, spec.image_size, spec.image_size, 3))

    def init(key: jax.Array) -> Params:
        params = model.init(key, example, method=None if spec.num_classes else "features")["params"]
        return params if spec.bottleneck is None else bottleneck.inserted(params, spec.bottleneck, family.mlps, key)

    def features(params: Params, images: jax.Array) -> jax.Array:
        with bottleneck.computing(spec.bottleneck):
            return model.apply({"params": params}, images, method="features")  # pyright: ignore

    def classify(params: Params, features: jax.Array) -> jax.Array:
        return model.apply({"params": params}, features, method="classify")  # pyright: ignore

    def logits(params: Params, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        with bottleneck.computing(spec.bottleneck):
            return model.apply({"params": params}, images, drop_path_masks)  # pyright: ignore

    return Network(
        init=init,
        logits=logits,
        features=features,
        classify=classify,
        drop_path_rates=family.drop_path_rates(size, drop_path_rate),
        lr_scales=lambda layer_decay, head_lr_scale: family.lr_scales(size, layer_decay, head_lr_scale),
        weight_decays=family.weight_decays,
        parting=WHOLE,
    )


def autoencoder(spec: ModelSpec, compute: Compute, mask_ratio: float) -> Autoencoder:
    """The masked autoencoder of a `spec` with a decoder as pure functions; mask_ratio is the share of patches removed.

    Raises:
      ConfigError: the family has no autoencoder.
    """
    family = FAMILIES[spec.family]
    if family.autoencoder is None:
        legal = ", ".join(variants(lambda other: other.autoencoder))
        raise ConfigError(
            f"config.model.variant is {spec.variant!r}, and a {family.name} has no masked autoencoder; "
            f"legal values: {legal}"
        )
    model, patch_size = family.autoencoder(spec, compute, mask_ratio), family.stride(spec.size)
    num_patches = (spec.image_size // patch_size) ** 2
    image, noise = jnp.zeros((1, spec.image_size, spec.image_size, 3)), jnp.zeros((1, num_patches))

    def apply(params: Params, images: jax.Array, noise: jax.Array) -> MaeOutput:
        return model.apply({"params": params}, images, noise)  # pyright: ignore

    return Autoencoder(
        init=lambda key: model.init(key, image, noise)["params"],
        apply=apply,
        patch_size=patch_size,
        num_patches=num_patches,
        weight_decays=mae.weight_decays,
    )


def cost(spec: ModelSpec, mask_ratio: float = 0.0) -> Cost | None:
    """What one image costs; None where nobody has counted it. mask_ratio is an autoencoder's."""
    count = FAMILIES[spec.family].cost
    return None if count is None else count(spec, mask_ratio)


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by "/"-joined path; no array is made, and a model is traced once."""
    return dict(_shapes(spec))


@functools.lru_cache(maxsize=64)
def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    any_ratio = 0.75  # shapes are the same for all
    model = autoencoder(spec, PLAIN, any_ratio) if spec.decoder else network(spec, PLAIN, 0.0)
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


def is_stacked(path: str) -> bool:
    """Whether the first axis of the array at a "/"-joined path is the layer, as the scan over depth needs it."""
    return any(re.search(family.stacked, path) for family in FAMILIES.values())


def told(spec: ModelSpec) -> str:
    """A model in a line for people."""
    parts = [spec.variant, f"images of {spec.image_size} x {spec.image_size} pixels", *FAMILIES[spec.family].told(spec)]
    if spec.decoder is not None:
        parts.append(f"with its decoder ({counted(spec.decoder.depth, 'block')} of width {spec.decoder.width})")
    else:
        kind = "head" if spec.head == "linear" else f"{spec.head} head"
        parts.append(f"{kind} for {counted(spec.num_classes, 'class', 'classes')}" if spec.num_classes else "no head")
    if spec.bottleneck is not None:
        parts.append(f"bottlenecks of {spec.bottleneck.rank} beside the MLPs")
    return ", ".join([*parts, f"LayerNorm epsilon {spec.layer_norm_eps:g}"])


def _cudnn_obstacles(backend: str, dtype: Any, head_dims: Sequence[int]) -> list[str]:
    """Why cuDNN's fused attention cannot run; empty where it can. Any token count will do: odd ones are padded."""
    obstacles = []
    if backend != "gpu":
        obstacles.append(f"the backend is {backend!r}, not 'gpu'")
    if dtype is None:
        obstacles.append("activations are not bfloat16 (config.model.dtype)")
    if unfit := [d for d in head_dims if d % 8 or d > CUDNN_MAX_HEAD_DIM]:
        obstacles.append(f"head dimensions {unfit} are not multiples of 8 up to {CUDNN_MAX_HEAD_DIM}")
    return obstacles


def _dtype(config: ModelConfig, backend: str) -> Any:
    """bfloat16, or None, which computes in the parameters' precision."""
    bfloat16 = config.dtype == "bfloat16" or (config.dtype == "auto" and backend in ("gpu", "tpu"))
    return jnp.bfloat16 if bfloat16 else None
