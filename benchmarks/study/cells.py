"""What is trained: rows of the table, their cells, and how a cell becomes a run of `semivit train`."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.study.sizes import SIZES, Frozen, Scratch

REPOSITORY = Path(__file__).parents[2]
# What a step frees stays in the process (docs/performance.md).
KEEP_FREED = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      told: in the table.
      stage: that is trained.
      start: row whose weights it starts from, '' for none; WEIGHTS are imported ones.
      keys: of the config, that differ from the recipe.
    """

    told: str
    stage: str
    start: str
    keys: Mapping[str, Any]


def _semi(told: str, teacher: str, pseudo_mixup: str, rule: str = "fixed", start: str = "finetune") -> Row:
    keys = {"semi.teacher": teacher, "semi.pseudo_mixup": pseudo_mixup, "semi.pseudo_label_rule": rule}
    return Row(told, "semi", start, keys)


WEIGHTS = "weights"
MAE = Row("MAE", "mae", "", {})
PAPER = {
    "supervised": Row("supervised only", "finetune", "", {}),
    "finetune": Row("MAE, then fine-tuning", "finetune", "mae", {}),
    "fixmatch": _semi("FixMatch: the student teaches", "student", "none"),
    "ema": _semi("EMA-Teacher, no pseudo mixup", "ema", "none"),
    "ema_mixup": _semi("EMA-Teacher, `mixup`", "ema", "mixup"),
    "ema_confident": _semi("EMA-Teacher, `mixup_confident`", "ema", "mixup_confident"),
    "ema_prob": _semi("EMA-Teacher, `prob`", "ema", "prob"),
}
RULES = {
    name: _semi(f"EMA-Teacher, `prob`, rule `{rule}`", "ema", "prob", rule)
    for name, rule in {
        "aligned_fixed": "aligned(fixed)",
        "free": "free",
        "soft_gauss": "soft_gauss",
        "class_mean": "class_mean",
    }.items()
}
# On frozen features: the head alone, then every rule from its weights. What a rule needs beside the threshold has the
# recipes' value.
ON_FEATURES = {
    "head": Row("head, labeled images alone", "finetune", WEIGHTS, {}),
    **{
        f"head_{name}": _semi(f"`{rule}`", "ema", "prob", rule, start="head")
        for name, rule in {
            "fixed": "fixed",
            "aligned_fixed": "aligned(fixed)",
            "free": "free",
            "soft_gauss": "soft_gauss",
            "class_mean": "class_mean",
            "flex": "flex",
            "relative": "relative",
            "aligned_free": "aligned(free)",
        }.items()
    },
}
ROWS = PAPER | RULES | ON_FEATURES
# What the paper says of its own rows (Cai et al. 2022, section 4): each is above the one before.
ORDER = ("finetune", "fixmatch", "ema", "ema_prob")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the program.

    Attributes:
      row: key of ROWS; 'mae' is the pre-training that all seeds share.
      seed: of the draw of labeled images, of weights, order and views.
      threshold: confidence threshold, 0 where the row has none.
      tuning: whether it is graded on the validation images, instead of the test images.
      rate: peak learning rate, 0 where it is not chosen but the recipe's.
    """

    row: str
    seed: int
    threshold: float = 0.0
    tuning: bool = False
    rate: float = 0.0

    @property
    def stage(self) -> str:
        return (MAE if self.row == "mae" else ROWS[self.row]).stage

    @property
    def name(self) -> str:
        if self.row == "mae":
            return "mae"
        tried = "_".join(f"{number:g}" for number in (self.threshold, self.rate) if number)
        return f"tuning/{self.row}_{tried}" if self.tuning else f"seed_{self.seed}/{self.row}"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a study lies.

    Attributes:
      size: its version.
      root: folder of its cells.
      images: folder of its images.
      weights: folder of imported weights, where the version has a frozen network.
    """

    size: str
    root: Path
    images: Path
    weights: Path | None = None

    def label_list(self, seed: int) -> Path:
        """The labeled images of a seed, where the config's seed does not draw them."""
        return self.root / f"seed_{seed}" / "labeled.txt"


def command(cell: Cell, place: Place) -> list[str]:
    """The command that trains a cell, or goes on with it."""
    return [
        *(sys.executable, "-m", "semivit_jax.main", "train", "--quiet"),
        *config_of(cell, place),
        f"--workdir={place.root / cell.name}",
    ]


def config_of(cell: Cell, place: Place) -> list[str]:
    """The arguments that name a cell's config and override its keys."""
    size = SIZES[place.size]
    row = MAE if cell.row == "mae" else ROWS[cell.row]
    keys = {
        "stages": (row.stage,),
        "init_from": str(_start(cell, row, place)) if row.start else "",
        "data.root": str(place.images),
        "data.eval_split": "validation" if cell.tuning or row is MAE else "test",
        **row.keys,
    }
    if row.stage == "semi":
        keys["semi.confidence_threshold"] = cell.threshold
    if isinstance(size.network, Scratch) and cell.row == "supervised":
        keys["finetune.epochs"] = size.network.scratch_epochs
    if cell.rate:
        keys[f"{row.stage}.base_lr"] = cell.rate
    seed = cell.seed
    if isinstance(size.network, Frozen):  # the config's seed draws the views, whose features all cells share
        keys["data.label_list"], seed = str(place.label_list(cell.seed)), 0
    recipe = Path(__file__).with_name("recipe.py")
    return [
        f"--config={recipe}:size={place.size},seed={seed}",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    ]


def _start(cell: Cell, row: Row, place: Place) -> Path:
    if row.start == WEIGHTS:
        assert place.weights is not None
        return place.weights
    return place.root / ("mae" if row.start == "mae" else Cell(row.start, cell.seed).name)


def train(cell: Cell, place: Place) -> None:
    """Trains a cell to its end; one that was stopped goes on, one that has finished is left as it is.

    Raises:
      SystemExit: the run failed or was stopped; what it said is in its log, beside its folder.
    """
    folder = place.root / cell.name
    if (folder / "DONE").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "a") as out:
        environ = {**os.environ, **KEEP_FREED, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            command(cell, place), cwd=REPOSITORY, env=environ, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        print(f"benchmarks.study: {cell.name} ended with exit code {done.returncode}; see {log}", file=sys.stderr)
        raise SystemExit(done.returncode)


def result(cell: Cell, place: Place) -> dict[str, float] | None:
    """What a finished cell reached, with its seconds, and of its last pass what was kept; None before its end.

    Where it starts from weights, `linear_probe` and `knn_probe` are accuracies on their frozen features.
    """
    folder = place.root / cell.name
    if not (folder / "DONE").exists():
        return None
    summary = json.loads((folder / "summary.json").read_text())
    probes = {name: found["acc1"] for name, found in summary["baselines"].items()}
    return {**summary["stages"].get(cell.stage, {}), **probes, "seconds": summary["seconds"]["total"]}


def finished(cells: list[Cell], place: Place) -> Iterator[tuple[Cell, dict[str, float]]]:
    """Of the cells those that have ended, with their results."""
    for cell in cells:
        found = result(cell, place)
        if found is not None:
            yield cell, found
