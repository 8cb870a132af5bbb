"""Parameter tables as text: path, shape, dtype, learning-rate factor and weight decay of one stage."""

import math
from typing import Any

import jax
import numpy as np

from semivit_jax.config import Config, FinetuneConfig
from semivit_jax.models.families import PathTable
from semivit_jax.ops import optim
from tests.golden.recipes import load
from tests.models import autoencoder_of, network_of

NUM_CLASSES = 1000

# Name of the table -> the recipe whose (first) stage it shows.
TABLES = {
    "mae_vit_b16": ("imagenet_mae", "model=vit_b16"),
    "mae_vit_l16": ("imagenet_mae", "model=vit_l16"),
    "mae_vit_h14": ("imagenet_mae", "model=vit_h14"),
    "vit_b16": ("imagenet_finetune", "model=vit_b16,labels=10pct"),
    "vit_l16": ("imagenet_finetune", "model=vit_l16,labels=10pct"),
    "vit_h14": ("imagenet_finetune", "model=vit_h14,labels=10pct"),
    "vit_s16_scratch": ("imagenet_finetune", "model=vit_s16,labels=10pct,init=scratch"),
    "convnext_tiny": ("imagenet_finetune", "model=convnext_tiny,labels=10pct,init=scratch"),
    "convnext_small": ("imagenet_finetune", "model=convnext_small,labels=10pct,init=scratch"),
}


def param_text(name: str) -> str:
    """One line per parameter, nothing allocated; blocks are stacked, so a table stays short."""
    file, arguments = TABLES[name]
    config = load(file, arguments)
    params, lr_scales, weight_decays = _described(config)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    scales = jax.tree.leaves(optim.by_path(lr_scales, params))
    decays = jax.tree.leaves(optim.by_path(weight_decays, params))
    rows = [("parameter", "shape", "dtype", "lr_scale", "weight_decay")]
    for (path, leaf), scale, decay in zip(leaves, scales, decays, strict=True):
        shape = " x ".join(map(str, leaf.shape))
        rows.append((optim.path_name(path), shape, str(leaf.dtype), _scale_text(scale), f"{decay:g}"))
    total = sum(math.prod(leaf.shape) for _, leaf in leaves)
    return f"# {config.log.recipe}, stage {config.stages[0]}: {total:,} parameters\n{_aligned(rows)}"


def _described(config: Config) -> tuple[Any, PathTable, PathTable]:
    """(shapes and dtypes, lr scales, weight decays) of the config's first stage."""
    section = config.stage(config.stages[0])
    key = jax.random.key(0)
    if config.mae is not None:
        autoencoder = autoencoder_of(config)
        decays = autoencoder.weight_decays(section.weight_decay)
        return jax.eval_shape(autoencoder.init, key), ((r"", 1.0),), decays
    assert isinstance(section, FinetuneConfig)
    model = network_of(config, image_size=config.data.image_size, num_classes=NUM_CLASSES)
    lr_scales = model.lr_scales(section.layer_decay, section.head_lr_scale)
    return jax.eval_shape(model.init, key), lr_scales, model.weight_decays(section.weight_decay)


def _scale_text(scale: Any) -> str:
    """A number, or first and last of a geometric row of layers, or all of an irregular one."""
    if np.ndim(scale) == 0:
        return f"{scale:.6g}"
    values = np.asarray(scale, np.float64).ravel()
    ratios = values[1:] / values[:-1]
    if np.allclose(ratios, ratios[0], rtol=1e-5):
        return f"{values[0]:.6g} to {values[-1]:.6g}, x {ratios[0]:.5g} per layer"
    return " ".join(f"{value:.6g}" for value in values)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() + "\n" for r in rows)
