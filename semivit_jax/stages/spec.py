"""What everybody else may ask about a stage, as one value."""

import dataclasses
from collections.abc import Callable
from typing import Any

from semivit_jax.plan import Stream


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
      name: key of config.stages, of its section and its folder; part of its streams' keys.
      streams: section -> what it takes from the data. `batch_size` counts the images of the first; exactly one of
        them sets the epoch.
      group_size: section -> labeled images that draw and mix together; 1 where nothing mixes.
    """

    name: str
    streams: Callable[[Any], tuple[Stream, ...]]
    group_size: Callable[[Any], int]
