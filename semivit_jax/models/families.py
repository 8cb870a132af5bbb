"""Builds models: from a config their `ModelSpec` and `Compute`, from those a `Network` or an `Autoencoder`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError, ModelConfig
from semivit_jax.models import convnext, layers, mae, vit
from semivit_jax.models.convnext import CONVNEXT_SIZES, ConvNeXt
from semivit_jax.models.mae import Mae, MaeOutput
from semivit_jax.models.spec import PLAIN, Compute, ModelSpec
from semivit_jax.models.vit import VIT_SIZES, ViT

Params = Any
CUDNN_MAX_HEAD_DIM = 128  # up to compute capability 8.x; 9.0 and later take 256, which no variant has
PathTable = tuple[tuple[str, Any], ...]  # (path pattern, value), first match wins


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone with its head as pure functions.

    Attributes:
      init: key -> params.
      logits: (params, images, drop_path_masks or None) -> (batch, classes).
      features: (params, images) -> what the head reads, (batch, width), evaluation mode.
      drop_path_rates: rates of all branches; masks have this shape plus a last batch axis.
      lr_scales: (layer_decay, head_lr_scale) -> table of learning-rate factors.
      weight_decays: weight_decay -> table of weight decays.
    """

    init: Callable[[jax.Array], Params]
    logits: Callable[[Params, jax.Array, jax.Array | None], jax.Array]
    features: Callable[[Params, jax.Array], jax.Array]
    drop_path_rates: np.ndarray
    lr_scales: Callable[[float, float], PathTable]
    weight_decays: Callable[[float], PathTable]


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
      ConfigError: a variant that no table has, or an image size that the model cannot take.
    """
    family, size = _size(config.variant, image_size)
    return ModelSpec(
        family=family,
        variant=config.variant,
        size=size,
        image_size=image_size,
        layer_norm_eps=config.layer_norm_eps,
        pool=config.pool,
        posemb=config.posemb,
        num_classes=num_classes,
        decoder=None,
    )


def compute(config: ModelConfig, spec: ModelSpec, *, backend: str) -> Compute:
    """How a config has the model of `spec` compute on a jax backend, which decides what 'auto' means.

    Raises:
      ConfigError: an attention kernel is asked for that cannot run.
    """
    dtype = _dtype(config, backend)
    obstacles = _cudnn_obstacles(backend, dtype, _head_dims(spec))
    if config.attention == "cudnn" and obstacles:
        raise ConfigError(f"config.model.attention is 'cudnn', but {' and '.join(obstacles)}; use 'auto' or 'xla'")
    cudnn = config.attention != "xla" and not obstacles
    return Compute(
        dtype=dtype,
        attention="cudnn" if cudnn else "xla",
        remat=config.remat,
        unroll=config.unroll,
        head_init_std=config.head_init_std,
    )


def network(spec: ModelSpec, compute: Compute, drop_path_rate: float) -> Network:
    """The model of `spec`; drop_path_rate is the rate of its last block. The one place where it is applied."""
    model = _module(spec, compute)
    example = jnp.zeros((1, spec.image_size, spec.image_size, 3))

    def features(params: Params, images: jax.Array) -> jax.Array:
        return model.apply({"params": params}, images, method="features")  # pyright: ignore

    def logits(params: Params, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        return model.apply({"params": params}, images, drop_path_masks)  # pyright: ignore

    method = None if spec.num_classes else "features"
    size = spec.size
    if spec.family == "convnext":
        return Network(
            init=lambda key: model.init(key, example, method=method)["params"],
            logits=logits,
            features=features,
            drop_path_rates=convnext.drop_path_rates(drop_path_rate, size.depths),
            lr_scales=lambda layer_decay, head_lr_scale: convnext.lr_scales(size.depths, layer_decay, head_lr_scale),
            weight_decays=convnext.weight_decays,
        )
    return Network(
        init=lambda key: model.init(key, example, method=method)["params"],
        logits=logits,
        features=features,
        drop_path_rates=layers.drop_path_rates(drop_path_rate, size.depth),
        lr_scales=lambda layer_decay, head_lr_scale: vit.lr_scales(size.depth, layer_decay, head_lr_scale),
        weight_decays=vit.weight_decays,
    )


def _module(spec: ModelSpec, compute: Compute) -> nn.Module:
    if spec.family == "convnext":
        return ConvNeXt(
            spec.size.depths,
            spec.size.widths,
            spec.num_classes,
            compute.dtype,
            compute.unroll,
            compute.head_init_std,
            spec.layer_norm_eps,
            compute.remat,
        )
    return ViT(
        **dataclasses.asdict(spec.size),
        image_size=spec.image_size,
        num_classes=spec.num_classes,
        pool=spec.pool,
        posemb=spec.posemb,
        layer_norm_eps=spec.layer_norm_eps,
        **dataclasses.asdict(compute),
    )


def autoencoder(spec: ModelSpec, compute: Compute, mask_ratio: float) -> Autoencoder:
    """The masked autoencoder of a `spec` with a decoder; mask_ratio is the share of patches removed."""
    assert spec.decoder is not None
    model = Mae(
        **dataclasses.asdict(spec.size),
        image_size=spec.image_size,
        decoder_width=spec.decoder.width,
        decoder_depth=spec.decoder.depth,
        decoder_num_heads=spec.decoder.num_heads,
        mask_ratio=mask_ratio,
        dtype=compute.dtype,
        attention=compute.attention,
        remat=compute.remat,
        unroll=compute.unroll,
        layer_norm_eps=spec.layer_norm_eps,
    )
    num_patches = vit.grid_size(spec) ** 2
    image, noise = jnp.zeros((1, spec.image_size, spec.image_size, 3)), jnp.zeros((1, num_patches))

    def apply(params: Params, images: jax.Array, noise: jax.Array) -> MaeOutput:
        return model.apply({"params": params}, images, noise)  # pyright: ignore

    return Autoencoder(
        init=lambda key: model.init(key, image, noise)["params"],
        apply=apply,
        patch_size=spec.size.patch_size,
        num_patches=num_patches,
        weight_decays=mae.weight_decays,
    )


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by "/"-joined path; no array is made."""
    any_ratio = 0.75  # shapes are the same for all
    model = autoencoder(spec, PLAIN, any_ratio) if spec.decoder else network(spec, PLAIN, 0.0)
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


def _size(variant: str, image_size: int) -> tuple[str, Any]:
    if variant in CONVNEXT_SIZES:
        if image_size % convnext.STRIDE:
            raise ConfigError(f"config.data.image_size is {image_size}; ConvNeXt needs a multiple of {convnext.STRIDE}")
        return "convnext", CONVNEXT_SIZES[variant]
    if variant not in VIT_SIZES:
        raise ConfigError(
            f"config.model.variant is {variant!r}; legal values: {', '.join((*VIT_SIZES, *CONVNEXT_SIZES))}"
        )
    size = VIT_SIZES[variant]
    if image_size % size.patch_size:
        raise ConfigError(
            f"config.data.image_size is {image_size}; {variant} needs a multiple of its patch size {size.patch_size}"
        )
    return "vit", size


def _head_dims(spec: ModelSpec) -> list[int]:
    if spec.family == "convnext":
        return []
    dims = [spec.size.width // spec.size.num_heads]
    return [*dims, spec.decoder.width // spec.decoder.num_heads] if spec.decoder else dims


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
