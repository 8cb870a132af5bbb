"""Define Source, a recognised state dict, and read the Hugging Face and timm configs beside it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224, Preprocessing
from semivit_jax.weights.preprocessors import from_hugging_face, from_timm, get, is_count, is_number, is_section
from semivit_jax.weights.tensors import Tensors

Configs = Mapping[str, Mapping]
"""Parsed config.json and preprocessor_config.json, where they lie beside the weights."""

UNSAID = ("image_size", "crop_fraction", "interpolation", "mean", "std")
"""Of Preprocessing, what a file of tensors alone does not tell."""


@dataclasses.dataclass(frozen=True)
class Beside:
    """What is known of any model beside its tensors.

    Attributes:
      layer_norm_eps: read from its config, or what its authors compute with.
      preprocessing: read from its config, or what its authors evaluate with.
      assumed: fields of `preprocessing` that nothing beside the tensors tells.
      class_names: None where they are not stored.
      notes: what people should know.
    """

    layer_norm_eps: float
    preprocessing: Preprocessing
    assumed: tuple[str, ...]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """A recognised state dict.

    Attributes:
      kind: what it was recognised as, for the report.
      family: a key of `families.FAMILIES`.
      tensors: without prefixes.
      table: our path -> names.
      decoder: the same for the MAE decoder, under the paths of our decoder; None where there is none.
      decoder_num_heads: of the decoder; None where there is none.
      pool: what its head reads, or a head of its authors would, "mean" or "cls"; None of an encoder that was trained
        by masking alone, which counts as "cls" until a run decides.
      size: what is known of the family's size beside the shapes, by the size's own names.
      image_size: pixels that its position embedding is for; None where it has none, or fits other sizes itself.
      beside: what is known of any model beside its tensors.
    """

    kind: str
    family: str
    tensors: Tensors
    table: Table
    decoder: Table | None
    decoder_num_heads: int | None
    pool: str | None
    size: Mapping[str, Any]
    image_size: int | None
    beside: Beside

    @property
    def num_classes(self) -> int:
        """Outputs of its head, 0 where it has none."""
        return (self.tensors.shapes.get(str(self.table.get("head/kernel"))) or (0,))[0]


def model_type(configs: Configs) -> str:
    """Hugging Face's word for the model; "" in timm's layout, where the names of the tensors tell."""
    kind = configs.get("config.json", {}).get("model_type") or "timm_wrapper"
    return "" if kind == "timm_wrapper" else str(kind)


def timm_config(configs: Configs) -> Mapping:
    """timm's config.json; empty where none lies there. Early ones hold `pretrained_cfg` alone, without its name."""
    config = configs.get("config.json", {})
    if "pretrained_cfg" not in config and "architecture" in config:
        return {"pretrained_cfg": config}
    return config if "pretrained_cfg" in config else {}


def tower_configs(configs: Configs, published: Mapping[str, Any]) -> Configs:
    """Configs of the image tower alone, where they are of one beside a tower of texts.

    Args:
      configs: of a model of Hugging Face, which leaves out what has the default of its class.
      published: those defaults.
    """
    config = configs["config.json"]
    tower = get(config, "vision_config", is_section, "an object", config)
    ours = {key: config[key] for key in ("model_type", "id2label") if key in config}
    return {**configs, "config.json": {**published, **tower, **ours}}


def beside_timm(configs: Configs) -> Beside:
    """What timm's config.json says, or the authors of weights without one."""
    config = timm_config(configs)
    if not config:
        return Beside(LAYER_NORM_EPS, IMAGENET_224, UNSAID, None, ())
    said, theirs = from_timm(config), get(config, "pretrained_cfg", is_section, "an object", {})
    labels = config.get("label_names") or theirs.get("label_names") or config.get("labels")  # early ones say labels
    return Beside(LAYER_NORM_EPS, said.preprocessing, said.assumed, _names(labels, "label_names"), said.notes)


def beside_hugging_face(configs: Configs, *, activation: str) -> Beside:
    """What Hugging Face's config.json and the preprocessor beside it say.

    Raises:
      ValueError: another activation than the model's ("gelu" is the exact one).
    """
    config, preprocessor = configs["config.json"], configs.get("preprocessor_config.json")
    if config["hidden_act"] != activation:
        exact = "the exact " if activation == "gelu" else ""
        raise ValueError(f"hidden_act {config['hidden_act']!r}: the models here use {exact}{activation!r}")
    eps = get(config, "layer_norm_eps", is_number, "a number", None)
    if eps is None or eps <= 0:
        raise ValueError(f"layer_norm_eps {config['layer_norm_eps']!r}: must be a number above 0")
    labels = get(config, "id2label", is_section, "an object", {})
    names = _names([labels[str(number)] for number in range(len(labels))], "id2label")
    if "pretrained_cfg" in config:
        said = from_timm(config)
    elif preprocessor is not None:
        said = from_hugging_face(preprocessor)
    else:
        size = get(config, "image_size", is_count, "pixels", IMAGENET_224.image_size)
        view = dataclasses.replace(IMAGENET_224, image_size=size)
        return Beside(eps, view, UNSAID[1:] if config.get("image_size") else UNSAID, names, ())
    return Beside(eps, said.preprocessing, said.assumed, names, said.notes)


def _names(labels: Any, key: str) -> tuple[str, ...] | None:
    if not labels:
        return None
    if not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise ValueError(f"{key}: expected a list of names")
    return tuple(labels)
