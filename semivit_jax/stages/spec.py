"""Define StageSpec: all that data, plan, checkpoints and command line may ask about a stage."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from semivit_jax.config import Config, StageConfig
from semivit_jax.models.cost import Cost
from semivit_jax.models.spec import ModelSpec
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages.stage import Stage


@dataclasses.dataclass(frozen=True)
class Health:
    """What must not collapse while a stage runs (`training/guard.py`).

    Attributes:
      step: metric of an update whose windowed mean is watched: a share of something that is kept.
      evaluation: metric of an evaluation that is watched.
      told: the latter in words.
      kept: what `step` is a share of, in words; '' where a share of none or all is nothing to speak of.
      quantiles: metrics that say what the share was decided by: its 10th, 50th and 90th percentile.
      key: section -> its key whose value decides the share: the lower, the more is kept; '' where none does.
      evened_by: section -> what to change where classes are left out; '' where nothing is known to help.
    """

    step: str
    evaluation: str
    told: str
    kept: str = ""
    quantiles: tuple[str, ...] = ()
    key: Callable[[Any], str] = lambda section: ""
    evened_by: Callable[[Any], str] = lambda section: ""


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
FRESH_HEAD = (r"^head\.", r"^head_hidden\.")
# Imported weights may lack what their source never had. A learned posemb starts as the sin-cos table that MAE used.
IMPORTED = Handover(
    left=(r"^decoder\.", r"^norm\.", r"^posemb$", r"^attn_pool\."),
    fresh=(*FRESH_HEAD, r"^fc_norm\.", r"^posemb$", r"^decoder\."),
)


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
      name: key of config.stages, of its section and its folder; part of its streams' keys.
      section: its keys, a dataclass that extends StageConfig.
      check: section -> None; raises ConfigError where keys that are legal alone are not so together.
      streams: section -> what it takes from the data. `batch_size` counts the images of the first; exactly one of
        them sets the epoch.
      group_size: section -> labeled images that draw and mix together; 1 where nothing mixes.
      model: (config, classes) -> what it trains.
      passes: (config, model) -> what an update passes through networks, for FLOPs, memory and traffic.
      make: (config, plan, backend) -> its functions, closed over network and optimizer.
      starts_from: stage that wrote earlier weights, or IMPORT -> what may be left or made anew; others are refused.
      score: what it is graded by, a share and the more the better, 'acc1': the best weights and the table go by it.
        '' evaluates nothing and needs no labels.
      summary: entry of summary.json -> key of report.json.
      rows: (method, entry of the summary) of the table that a run ends with.
      shown: metric -> its format on the progress line, beside what every stage shows.
      health: what must not collapse; None watches nothing but updates that are not finite.
      pre_training: weights named by config.init_from take its place, and few images are too few for it.
    """

    name: str
    section: type[StageConfig]
    check: Callable[[Any], None]
    streams: Callable[[Any], tuple[Stream, ...]]
    group_size: Callable[[Any], int]
    model: Callable[[Config, int], ModelSpec]
    passes: Callable[[Config, ModelSpec], tuple[Pass, ...]]
    make: Callable[[Config, Plan, str], Stage]
    starts_from: Mapping[str, Handover]
    score: str
    summary: Mapping[str, str]
    rows: tuple[tuple[str, str], ...]
    shown: Mapping[str, str]
    health: Health | None = None
    pre_training: bool = False

    @property
    def published(self) -> str:
        """Key of the section with the published score, in percent; '' where the stage has none."""
        key = f"published_{self.score}"
        return key if key in {field.name for field in dataclasses.fields(self.section)} else ""
