"""Describe what an import into a ViT's relatives becomes, which have no decoder (DINOv3, CLIP, SigLIP)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from semivit_jax.models import posemb, vit
from semivit_jax.models.families import FAMILIES
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.exchange import Wanted
from semivit_jax.weights.fill import Resizer
from semivit_jax.weights.sources import Beside, Source


def spec(source: Source, wanted: Wanted) -> ModelSpec:
    """The model of the wanted variant; its head is the source's where it reads the same pool.

    Raises:
      ValueError: heads or an activation that do not fit, a pool that the family has not, or a decoder.
    """
    family, pool = FAMILIES[source.family], wanted.pool or source.pool
    size, pools = family.sizes[wanted.variant], family.legal["pool"]
    if wanted.decoder or pool not in pools:
        raise ValueError(f"{wanted.variant}: has no decoder, and a pool of {pools}; got {wanted.decoder}, {pool!r}")
    for field in ("num_heads", "mlp"):
        ours = getattr(size, field)
        if source.size.get(field, ours) != ours:
            raise ValueError(f"{field}: the source has {source.size[field]}, {wanted.variant} {ours}")
    return ModelSpec(
        family=source.family,
        variant=wanted.variant,
        size=size,
        image_size=wanted.image_size,
        layer_norm_eps=source.beside.layer_norm_eps,
        pool=pool,
        posemb=family.legal["posemb"][0],
        num_classes=source.num_classes if pool == source.pool else 0,
        decoder=None,
    )


def seen_as_trained(
    beside: Beside, mean: tuple[float, float, float], std: tuple[float, float, float], whose: str
) -> Beside:
    """The same, but for what nothing tells of how images are prepared: that is as its authors do, the whole image."""
    if "mean" not in beside.assumed:
        return beside
    view = dataclasses.replace(beside.preprocessing, crop_fraction=1.0, mean=mean, std=std)
    note = f"nothing in the source tells how images are prepared: assumed is what {whose} computes with"
    assumed = tuple(name for name in beside.assumed if name == "image_size")
    return dataclasses.replace(beside, preprocessing=view, assumed=assumed, notes=(*beside.notes, note))


def measured(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """All but the heads and the activation, which leave no trace in the shapes."""
    return {
        "patch_size": shapes["patch_embed/kernel"][0],
        "width": shapes["patch_embed/kernel"][-1],
        "depth": shapes["blocks/mlp/fc1/bias"][0],
        "mlp_dim": shapes["blocks/mlp/fc2/kernel"][1],
    }


def posemb_resizer(spec: ModelSpec, rule: str, whose: str, *, class_rows: int) -> Resizer:
    """Resizes a position embedding by a row of `posemb.RESIZES`, as a library does."""

    def apply(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(posemb.resize(jnp.asarray(array), vit.grid_size(spec), rule, class_rows=class_rows))

    return Resizer(axes=(1,), apply=apply, note=f"resized as {whose} does ({rule})")
