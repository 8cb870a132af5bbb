"""ImageNet as the published recipes use it: labeled subsets, models and where their weights come from."""

from collections.abc import Collection
from typing import Any, NamedTuple

from semivit_jax.configs import _base


class Model(NamedTuple):
    """One row per model.

    max_images_per_device is an estimate for 80 GB, with room for the mixing groups of every row; a limit without that
    room makes the groups smaller, which changes what is computed (and is said).
    """

    pool: str
    max_images_per_device: int


MODELS = {
    "vit_s16": Model("mean", 512),
    "vit_b16": Model("mean", 256),
    "vit_l16": Model("mean", 128),
    "vit_h14": Model("cls", 64),
    "convnext_tiny": Model("mean", 256),
    "convnext_small": Model("mean", 128),
}

# The labeled images of SimCLR (Chen et al. 2020): file names, one per line, 12,811 and 128,116 of them.
LABELS = {
    "1pct": dict(label_list="imagenet_subsets/1percent.txt"),
    "10pct": dict(label_list="imagenet_subsets/10percent.txt"),
    "100pct": dict(label_fraction=1.0),
}

Key = tuple[str, str, str]  # (model, labels, init)


def is_convnext(variant: str) -> bool:
    return variant.startswith("convnext")


def find(rows: Collection[Key], args: Any) -> Key:
    """(model, labels, init) of the arguments.

    Raises:
      ValueError: there is no such recipe; names those there are.
    """
    key = (args.model, args.labels, args.init)
    if key not in rows:
        legal = "; ".join(_words(k) for k in rows)
        raise ValueError(f"there is no recipe {_words(key)}; there are: {legal}")
    return key


def name(file: str, key: Key) -> str:
    """The recipe's name, which is also how it is asked for."""
    return f"{file}:{_words(key)}"


def data(labels: str) -> dict[str, Any]:
    """Section `data` on TFDS `imagenet2012`, evaluated on its 50,000 validation images."""
    return _base.photo_data(dataset="imagenet2012", train_split="train", eval_split="validation", **LABELS[labels])


def model(variant: str, init: str) -> dict[str, Any]:
    """Section `model`. From scratch, a ViT's position embedding is the frozen sin-cos table."""
    if is_convnext(variant):
        return _base.vit(variant=variant, posemb="none", head_init_std=0.02)
    return _base.vit(variant=variant, pool=MODELS[variant].pool, posemb="sincos" if init == "scratch" else "learned")


def init_from(variant: str, init: str) -> str:
    """Folder of the imported MAE weights; nothing from scratch."""
    return f"weights/mae_{variant}" if init == "mae" else ""


def _words(key: Key) -> str:
    return "model={},labels={},init={}".format(*key)
