"""Read what a run has written of itself: no weights, no image, so also of a run that goes on or has just begun."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from semivit_jax import files
from semivit_jax.checkpoints import workdir
from semivit_jax.config import Config
from semivit_jax.data import record
from semivit_jax.files import Path, read_json
from semivit_jax.stages import STAGES
from semivit_jax.training import goodput, lease

FINISHED, TRAINS, STOPPED = "finished", "trains", "stopped"  # states of a run
WAITS, BEGUN = "waits", "begun"  # of a stage, beside FINISHED


@dataclasses.dataclass(frozen=True)
class StageFacts:
    """What a stage has written.

    Attributes:
      name: of the stage.
      state: WAITS, BEGUN or FINISHED.
      plan: its plan.json; {} before it begins.
      report: its report.json; {} before it ends.
      lines: of metrics, one dict for each step, in order.
    """

    name: str
    state: str
    plan: Mapping[str, Any]
    report: Mapping[str, Any]
    lines: Sequence[Mapping[str, float]]

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    def last(self, key: str) -> float | None:
        """The newest number under a key of the metrics; None where there is none."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What a run has written.

    Attributes:
      folder: its workdir.
      state: FINISHED, TRAINS or STOPPED.
      config: its config.
      listing: of listing.json, class names and numbers of images; {} before the data is open.
      labeled: labeled images of each class, [] before the data is open.
      stages: in their order.
      summary: of summary.json; {} before the end.
      seconds: where the time since the first start went, by part; {} where a run of earlier versions did not count it.
    """

    folder: Path
    state: str
    config: Config
    listing: Mapping[str, Any]
    labeled: Sequence[int]
    stages: tuple[StageFacts, ...]
    summary: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def class_names(self) -> Sequence[str]:
        return self.listing.get("class_names", ())

    def stage(self, name: str) -> StageFacts:
        """One of its stages."""
        return next(stage for stage in self.stages if stage.name == name)

    def scored(self) -> list[StageFacts]:
        """The stages that are graded by their share of right answers, and have been evaluated at least once."""
        return [s for s in self.stages if STAGES[s.name].score == "acc1" and s.last("val/acc1") is not None]


def read(folder: Path) -> RunFacts:
    """What is there of a run, as far as it has come.

    Raises:
      ConfigError: the folder is no run's.
    """
    config = workdir.load_config(folder)
    state = FINISHED if workdir.is_done(folder) else TRAINS if lease.holder(folder) is not None else STOPPED
    begun = record.read(folder)
    listing = {} if begun is None else dict(begun.facts)
    labeled = [0] * len(listing.get("class_names", ()))
    for row in begun.rows if begun else ():
        if row.role == "labeled":
            labeled[row.label] += 1
    return RunFacts(
        folder=folder,
        state=state,
        config=config,
        listing=listing,
        labeled=labeled,
        stages=tuple(_stage(folder / name, name) for name in config.stages),
        summary=_json(folder / "summary.json"),
        seconds=_seconds(folder),
    )


def _stage(folder: Path, name: str) -> StageFacts:
    lines = _lines(folder / "metrics.jsonl")
    state = FINISHED if workdir.is_done(folder) else BEGUN if (folder / "plan.json").exists() else WAITS
    return StageFacts(name, state, _json(folder / "plan.json"), _json(folder / "report.json"), lines)


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _lines(path: Path) -> list[dict[str, float]]:
    """One dict for each step; runs of earlier versions wrote an evaluation on a line of its own."""
    steps: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that is writing it now
            continue
        steps.setdefault(found["step"], {}).update(found)
    return [steps[step] for step in sorted(steps)]


def _seconds(folder: Path) -> dict[str, float]:
    stored = _json(folder / goodput.FILE)
    return goodput.totals(goodput.Account(**stored)) if stored else {}


def name_of(folder: Path) -> str:
    """What a run is called: the last part of its folder."""
    return files.absolute(folder).name
