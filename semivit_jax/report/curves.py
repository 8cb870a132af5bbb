"""Choose what of a stage's metrics is drawn, and in which figures: the table CURVES."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from semivit_jax.report.facts import StageFacts

MOST_POINTS = 400  # of a line; of more, means of neighbours are drawn
SHARE, NUMBER, SECONDS = "share", "number", "seconds"


@dataclasses.dataclass(frozen=True)
class Curve:
    """A figure.

    Attributes:
      title: what it shows.
      unit: SHARE (drawn in percent), NUMBER or SECONDS.
      lines: key of the metrics -> what the line is called; a key that ends in '*' stands for all that begin so.
      told: what to look for in it.
    """

    title: str
    unit: str
    lines: Mapping[str, str]
    told: str


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure with its points, {line: [(step, value), ...]}."""

    curve: Curve
    points: Mapping[str, Sequence[tuple[int, float]]]


CURVES = (
    Curve(
        "Accuracy",
        SHARE,
        {"val/acc1": "as trained", "val_ema/acc1": "moving average (teacher)"},
        "Still rising at the right edge: train longer.",
    ),
    Curve(
        "Loss",
        NUMBER,
        {"train/loss_labeled": "labeled images", "train/loss_unlabeled": "unlabeled images", "train/loss": "all"},
        "It should fall, and flatten towards the end.",
    ),
    Curve(
        "Pseudo labels",
        SHARE,
        {
            "train/mask_rate": "share kept",
            "train/kept_share": "share with any weight",
            "train/pseudo_label_acc": "right, of those kept",
            "train/teacher_acc": "right, of all",
        },
        "How right they are can be told only where the true labels of unlabeled images are known.",
    ),
    Curve(
        "How sure the teacher is",
        SHARE,
        {
            "train/confidence_q90": "surest tenth",
            "train/confidence_q50": "median",
            "train/confidence_q10": "least sure tenth",
        },
        "A threshold above the surest tenth keeps hardly anything.",
    ),
    Curve(
        "Thresholds",
        SHARE,
        {
            "train/threshold_max": "highest of the classes",
            "train/threshold_median": "median class",
            "train/threshold_min": "lowest of the classes",
        },
        "Of rules that move them: the confidence that counts.",
    ),
    Curve("Thresholds by class", SHARE, {"train/threshold_class_*": "class"}, "A low one belongs to a hard class."),
    Curve("Learning rate", NUMBER, {"train/lr": "learning rate"}, "It warms up, then falls."),
    Curve(
        "Seconds per update",
        SECONDS,
        {"perf/step_seconds": "seconds"},
        "Steps upwards mean that something else took the machine.",
    ),
    Curve(
        "Waiting for images",
        SHARE,
        {"perf/input_wait_frac": "share of the time"},
        "Much of it: more threads, or smaller files.",
    ),
    Curve(
        "Goodput",
        SHARE,
        {"perf/goodput": "share of the time"},
        "Of the time since the first start, what went into updates that count.",
    ),
)


def drawn(stage: StageFacts, class_names: Sequence[str]) -> list[Drawn]:
    """The figures of a stage that have a line of at least two points, in the order of CURVES."""
    found = []
    for curve in CURVES:
        points = {}
        for key, called in curve.lines.items():
            for one, name in _keys(stage, key, called, class_names):
                line = _points(stage, one)
                if len(line) > 1 and not _says_nothing(one, line):
                    points[name] = thinned(line, MOST_POINTS)
        if "all" in points and len(points) == 1:  # a loss of one part
            points = {"loss": points["all"]}
        if points:
            found.append(Drawn(curve, points))
    return found


def _keys(stage: StageFacts, key: str, called: str, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """(key, name) of the lines that a key of the table stands for."""
    if not key.endswith("*"):
        return [(key, called)]
    start = key.removesuffix("*")
    there = {name for line in stage.lines[:1] for name in line if name.startswith(start)}
    numbers = sorted(int(name.removeprefix(start)) for name in there)
    return [(f"{start}{n}", class_names[n] if n < len(class_names) else f"{called} {n}") for n in numbers]


def _points(stage: StageFacts, key: str) -> list[tuple[int, float]]:
    return [(int(line["step"]), line[key]) for line in stage.lines if key in line and math.isfinite(line[key])]


def _says_nothing(key: str, line: Sequence[tuple[int, float]]) -> bool:
    """Whether a share of right labels is 0 throughout, as where no true label is known."""
    return key in ("train/pseudo_label_acc", "train/teacher_acc") and not any(value for _, value in line)


def thinned(line: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """The line itself, or means of as many neighbours as leave at most so many points; the last step stays."""
    per = -(-len(line) // most)
    if per == 1:
        return list(line)
    groups = [line[at : at + per] for at in range(0, len(line), per)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
