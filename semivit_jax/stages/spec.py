"""What everybody else may ask about a stage, as one value."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from semivit_jax.config import Config
from semivit_jax.models.cost import Cost
from semivit_jax.models.spec import ModelSpec
from semivit_jax.plan import Stream

IMPORT = "import"  # beside the stages' names: weights that `semivit import` wrote


@dataclasses.dataclass(frozen=True)
class Pass:
    """Images of one update that go through a network.

    Attributes:
      cost: of one image; None where nobody has counted it.
      per_row: images beside one of `batch_size`.
      backward: False for a teacher, which is passed forward only.
    """

    cost: Cost | None
    per_row: int
    backward: bool


@dataclasses.dataclass(frozen=True)
class Handover:
    """Patterns of dotted names: what earlier weights may leave behind, what may start anew; all else is refused."""

    left: tuple[str, ...]
    fresh: tuple[str, ...]


AS_IT_IS = Handover(left=(), fresh=())
# Imported weights may lack what their source never had. A learned posemb starts as the sin-cos table that MAE used.
IMPORTED = Handover(
    left=(r"^decoder\.", r"^norm\.", r"^posemb$"), fresh=(r"^head\.", r"^fc_norm\.", r"^posemb$", r"^decoder\.")
)


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
      name: key of config.stages, of its section and its folder; part of its streams' keys.
      streams: section -> what it takes from the data. `batch_size` counts the images of the first; exactly one of
        them sets the epoch.
      group_size: section -> labeled images that draw and mix together; 1 where nothing mixes.
      model: (config, classes) -> what it trains.
      passes: (config, model) -> what an update passes through networks, for FLOPs, memory and traffic.
      starts_from: stage that wrote earlier weights, or IMPORT -> what may be left or made anew; others are refused.
    """

    name: str
    streams: Callable[[Any], tuple[Stream, ...]]
    group_size: Callable[[Any], int]
    model: Callable[[Config, int], ModelSpec]
    passes: Callable[[Config, ModelSpec], tuple[Pass, ...]]
    starts_from: Mapping[str, Handover]
