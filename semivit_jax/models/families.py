"""The table of model sizes, and one typed wrapper per model: a `Classifier` or an `Autoencoder`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError, MaeConfig, ModelConfig
from semivit_jax.models import convnext, mae, vit
from semivit_jax.models.convnext import CONVNEXT_SIZES, ConvNeXt
from semivit_jax.models.layers import drop_path_rates
from semivit_jax.models.mae import Mae, MaeOutput
from semivit_jax.models.vit import ViT

Params = Any
CUDNN_MAX_HEAD_DIM = 128  # up to compute capability 8.x; 9.0 and later take 256, which no variant has
PathTable = tuple[tuple[str, Any], ...]  # (path pattern, value), first match wins


@dataclasses.dataclass(frozen=True)
class ViTSize:
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int


VIT_SIZES = {
    "vit_s16": ViTSize(16, 384, 12, 6, 1536),
    "vit_b16": ViTSize(16, 768, 12, 12, 3072),
    "vit_l16": ViTSize(16, 1024, 24, 16, 4096),
    "vit_h14": ViTSize(14, 1280, 32, 16, 5120),
    "vit_h16": ViTSize(16, 1280, 32, 16, 5120),
    "vit_s14": ViTSize(14, 384, 12, 6, 1536),  # DINOv2's sizes (Oquab et al. 2023)
    "vit_b14": ViTSize(14, 768, 12, 12, 3072),
    "vit_l14": ViTSize(14, 1024, 24, 16, 4096),
    "vit_digits": ViTSize(2, 64, 4, 4, 256),  # 8 x 8 images, the demo
    "vit_s4": ViTSize(4, 384, 12, 6, 1536),  # 32 x 32 images
    "vit_test": ViTSize(8, 48, 3, 3, 192),  # the recorded tiny model
    "vit_test2": ViTSize(8, 48, 2, 3, 192),  # two blocks: the recorded MAE, and stage tests
}


@dataclasses.dataclass(frozen=True)
class Classifier:
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


def classifier(
    config: ModelConfig, *, image_size: int, num_classes: int, drop_path_rate: float, backend: str
) -> Classifier:
    """Builds the classifier a config names.

    Args:
      config: the model section.
      image_size: side of the input in pixels.
      num_classes: outputs.
      drop_path_rate: rate of the last block.
      backend: jax backend the model will run on; decides what 'auto' means.
    """
    if config.variant in CONVNEXT_SIZES:
        return _convnext(config, image_size, num_classes, drop_path_rate, backend)
    size = _vit_size(config.variant, image_size)
    model = ViT(
        **dataclasses.asdict(size),
        image_size=image_size,
        num_classes=num_classes,
        pool=config.pool,
        posemb=config.posemb,
        head_init_std=config.head_init_std,
        **_compute(config, backend, head_dims=[size.width // size.num_heads]),
    )
    return _wrap(
        model,
        image_size=image_size,
        rates=drop_path_rates(drop_path_rate, size.depth),
        lr_scales=lambda layer_decay, head_lr_scale: vit.lr_scales(size.depth, layer_decay, head_lr_scale),
        weight_decays=vit.weight_decays,
    )


def _convnext(
    config: ModelConfig, image_size: int, num_classes: int, drop_path_rate: float, backend: str
) -> Classifier:
    size = CONVNEXT_SIZES[config.variant]
    if image_size % convnext.STRIDE:
        raise ConfigError(f"config.data.image_size is {image_size}; ConvNeXt needs a multiple of {convnext.STRIDE}")
    model = ConvNeXt(
        size.depths,
        size.widths,
        num_classes,
        _dtype(config, backend),
        config.unroll,
        config.head_init_std,
        config.layer_norm_eps,
        config.remat,
    )
    return _wrap(
        model,
        image_size=image_size,
        rates=convnext.drop_path_rates(drop_path_rate, size.depths),
        lr_scales=lambda layer_decay, head_lr_scale: convnext.lr_scales(size.depths, layer_decay, head_lr_scale),
        weight_decays=convnext.weight_decays,
    )


def _wrap(
    model: ViT | ConvNeXt,
    *,
    image_size: int,
    rates: np.ndarray,
    lr_scales: Callable[[float, float], PathTable],
    weight_decays: Callable[[float], PathTable],
) -> Classifier:
    """The one place where a module's untyped `apply` is called."""
    example = jnp.zeros((1, image_size, image_size, 3))

    def features(params: Params, images: jax.Array) -> jax.Array:
        return model.apply({"params": params}, images, method=type(model).features)  # pyright: ignore

    def logits(params: Params, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        return model.apply({"params": params}, images, drop_path_masks)  # pyright: ignore

    return Classifier(
        init=lambda key: model.init(key, example)["params"],
        logits=logits,
        features=features,
        drop_path_rates=rates,
        lr_scales=lr_scales,
        weight_decays=weight_decays,
    )


def autoencoder(config: ModelConfig, stage: MaeConfig, *, image_size: int, backend: str) -> Autoencoder:
    """Builds the masked autoencoder around the backbone a config names."""
    size = _vit_size(config.variant, image_size)
    if stage.decoder_width % 4 or stage.decoder_width % stage.decoder_num_heads:
        raise ConfigError(
            f"config.mae.decoder_width is {stage.decoder_width}; it must be a multiple of 4, for the position "
            f"embedding, and of config.mae.decoder_num_heads, {stage.decoder_num_heads}"
        )
    head_dims = [size.width // size.num_heads, stage.decoder_width // stage.decoder_num_heads]
    model = Mae(
        **dataclasses.asdict(size),
        image_size=image_size,
        decoder_width=stage.decoder_width,
        decoder_depth=stage.decoder_depth,
        decoder_num_heads=stage.decoder_num_heads,
        mask_ratio=stage.mask_ratio,
        **_compute(config, backend, head_dims=head_dims),
    )
    num_patches = (image_size // size.patch_size) ** 2
    image, noise = jnp.zeros((1, image_size, image_size, 3)), jnp.zeros((1, num_patches))

    def apply(params: Params, images: jax.Array, noise: jax.Array) -> MaeOutput:
        return model.apply({"params": params}, images, noise)  # pyright: ignore

    return Autoencoder(
        init=lambda key: model.init(key, image, noise)["params"],
        apply=apply,
        patch_size=size.patch_size,
        num_patches=num_patches,
        weight_decays=mae.weight_decays,
    )


def _vit_size(variant: str, image_size: int) -> ViTSize:
    if variant not in VIT_SIZES:
        raise ConfigError(
            f"config.model.variant is {variant!r}; legal values: {', '.join((*VIT_SIZES, *CONVNEXT_SIZES))}"
        )
    size = VIT_SIZES[variant]
    if image_size % size.patch_size:
        raise ConfigError(
            f"config.data.image_size is {image_size}; {variant} needs a multiple of its patch size {size.patch_size}"
        )
    return size


def _compute(config: ModelConfig, backend: str, *, head_dims: Sequence[int]) -> dict[str, Any]:
    """How a model computes: activation type, attention kernel, rematerialisation, unrolling, LayerNorm."""
    dtype = _dtype(config, backend)
    obstacles = _cudnn_obstacles(backend, dtype, head_dims)
    if config.attention == "cudnn" and obstacles:
        raise ConfigError(f"config.model.attention is 'cudnn', but {' and '.join(obstacles)}; use 'auto' or 'xla'")
    cudnn = config.attention != "xla" and not obstacles
    return {
        "dtype": dtype,
        "attention": "cudnn" if cudnn else "xla",
        "remat": config.remat,
        "unroll": config.unroll,
        "layer_norm_eps": config.layer_norm_eps,
    }


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
