"""Define Source, a recognised state dict, and read the Hugging Face and timm configs beside it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.weights.account import Row
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing, from_hugging_face, from_timm
from semivit_jax.weights.tensors import Tensors

Configs = Mapping[str, Mapping]
"""Parsed config.json and preprocessor_config.json, where they lie beside the weights."""


@dataclasses.dataclass(frozen=True)
class Beside:
    """What is known of any model beside its tensors.

    Attributes:
      layer_norm_eps: read from its config, or what its authors compute with.
      preprocessing: read from its config, or what its authors evaluate with.
      class_names: None where they are not stored.
    """

    layer_norm_eps: float
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Source:
    """A recognised state dict.

    Attributes:
      kind: what it was recognised as, for the report.
      family: a key of `families.FAMILIES`.
      tensors: without prefixes, layer scale folded.
      folded: rows of the report on tensors that were folded into others.
      table: our path -> names.
      decoder: the same for the MAE decoder, under the paths of our decoder; None where there is none.
      decoder_num_heads: of the decoder; None where there is none.
      pool: what its head reads, "mean" or "cls"; encoders without a head count as "cls".
      size: what is known of the family's size beside the shapes, by the size's own names.
      beside: what is known of any model beside its tensors.
    """

    kind: str
    family: str
    tensors: Tensors
    folded: tuple[Row, ...]
    table: Table
    decoder: Table | None
    decoder_num_heads: int | None
    pool: str
    size: Mapping[str, Any]
    beside: Beside

    @property
    def num_classes(self) -> int:
        """Outputs of its head, 0 where it has none."""
        return self.tensors.shapes.get(str(self.table.get("head/kernel")), (0,))[0]


def model_type(configs: Configs) -> str:
    """Hugging Face's word for the model; "" in timm's layout, where the names of the tensors tell."""
    kind = configs.get("config.json", {}).get("model_type", "timm_wrapper")
    return "" if kind == "timm_wrapper" else kind


def timm_config(configs: Configs) -> Mapping:
    """timm's config.json; empty where none lies there."""
    config = configs.get("config.json", {})
    return config if "pretrained_cfg" in config else {}


def beside_timm(configs: Configs) -> Beside:
    """What timm's config.json says, or the authors of weights without one."""
    config = timm_config(configs)
    if not config:
        return Beside(LAYER_NORM_EPS, IMAGENET_224, None)
    labels = config.get("label_names") or config["pretrained_cfg"].get("label_names")
    return Beside(LAYER_NORM_EPS, from_timm(config["pretrained_cfg"]), tuple(labels) if labels else None)


def beside_hugging_face(configs: Configs) -> Beside:
    """What Hugging Face's config.json and the preprocessor beside it say.

    Raises:
      ValueError: another activation than the exact GELU.
    """
    config = configs["config.json"]
    if config["hidden_act"] != "gelu":
        raise ValueError(f"hidden_act {config['hidden_act']!r}: the models here use the exact 'gelu'")
    labels = config.get("id2label")
    class_names = tuple(labels[str(i)] for i in range(len(labels))) if labels else None
    return Beside(config["layer_norm_eps"], _hugging_face_preprocessing(configs), class_names)


def _hugging_face_preprocessing(configs: Configs) -> Preprocessing:
    """From the preprocessor beside the weights, or from timm's part of the config where that is the one."""
    config, preprocessor = configs["config.json"], configs.get("preprocessor_config.json")
    if "pretrained_cfg" in config:
        return from_timm(config["pretrained_cfg"])
    if preprocessor is not None:
        return from_hugging_face(preprocessor)
    return dataclasses.replace(IMAGENET_224, image_size=config["image_size"])
