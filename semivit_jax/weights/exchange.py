"""Define Exchange: all that importing and exporting ask about a family in other libraries."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.account import Row
from semivit_jax.weights.fill import Target
from semivit_jax.weights.graph import Params, Writer
from semivit_jax.weights.layout import Table
from semivit_jax.weights.public import Public
from semivit_jax.weights.sources import Configs, Source
from semivit_jax.weights.tensors import Tensors

POOLS = ("mean", "cls", "map")  # what a head can read; which of them, is for a family to say
HEAD = ("head/kernel", "head/bias")  # of every classifier, whatever its family


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What an import is to become; see `importing.import_weights`."""

    variant: str
    pool: str | None
    image_size: int
    decoder: bool


Arrays = Mapping[str, np.ndarray]
"""Of a model, by path in our layout."""


def as_they_are(arrays: Arrays) -> Arrays:
    """Nothing to be done."""
    return arrays


@dataclasses.dataclass(frozen=True)
class Timm:
    """A model as timm builds it.

    Attributes:
      architecture: name of the function that builds it.
      model_args: the function's arguments; they spell out the sizes.
      num_features: values that the head reads.
      global_pool: timm's word for `pool`.
      fixed_input_size: whether images of another size need other weights.
      pool_size: sides of the grid that is pooled; None where there is none.
      first_conv: module that reads the pixels.
      classifier: module that gives the logits.
      layer_norm_eps: what it computes with; no argument there changes it.
      arrays: ours -> what stands there under the names of ours.
    """

    architecture: str
    model_args: Mapping[str, Any]
    num_features: int
    global_pool: str
    fixed_input_size: bool
    pool_size: tuple[int, int] | None
    first_conv: str
    classifier: str
    layer_norm_eps: float
    arrays: Callable[[Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class HuggingFace:
    """A model as transformers builds it.

    Attributes:
      config: keys of config.json: the class, and its sizes.
      names: of the tensors.
      prefix: in front of all of them but the classifier's.
      arrays: ours -> what stands there under the names of ours.
    """

    config: Mapping[str, Any]
    names: Table
    prefix: str
    arrays: Callable[[Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A family of models in other libraries.

    Attributes:
      known: layouts that are recognised, for people.
      public: variant -> weights that others publish of it.
      model_types: the same as Hugging Face's config.json calls them.
      recognise: (tensors without prefixes of wrappers, configs) -> the source; None where it is not of this
        family. Raises ValueError for one that looks alike and computes otherwise, by name.
      measured: shapes of the source's arrays in our layout by path -> what they tell of the family's size, by the
        size's own names. Raises KeyError for a path that it lacks.
      adapted: (source, spec) -> its tensors as the model takes them, and rows on those that were folded into others.
        Raises ValueError where the model computes otherwise.
      spec: (source, wanted) -> the model that takes as much of the source as possible. Raises ValueError for what
        the family does not have.
      target: (source, spec) -> what `fill` needs to know. Raises ValueError where the source cannot become the model.
      names: spec -> timm's; our own runs are told in them too.
      decoder_names: of a masked autoencoder's decoder, under the paths of the decoder; None where there is none.
      constants: spec -> arrays by path that are constants of the model here and tensors elsewhere.
      timm: spec -> the model there.
      hugging_face: spec -> the model there; None where it has no class of its own and travels as timm's.
      onnx: (writer, normalised pixels (batch, 3, height, width), params and constants, spec) -> name of the
        features (batch, width); None where nobody has written its graph.
    """

    known: tuple[str, ...]
    public: Mapping[str, tuple[Public, ...]]
    model_types: tuple[str, ...]
    recognise: Callable[[Tensors, Configs], Source | None]
    measured: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any]]
    adapted: Callable[[Source, ModelSpec], tuple[Tensors, tuple[Row, ...]]]
    spec: Callable[[Source, Wanted], ModelSpec]
    target: Callable[[Source, ModelSpec], Target]
    names: Callable[[ModelSpec], Table]
    decoder_names: Table | None
    constants: Callable[[ModelSpec], dict[str, np.ndarray]]
    timm: Callable[[ModelSpec], Timm]
    hugging_face: Callable[[ModelSpec], HuggingFace | None]
    onnx: Callable[[Writer, str, Params, ModelSpec], str] | None
