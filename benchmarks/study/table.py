"""The study's table: mean, spread, paired differences with their 95 % interval, as Markdown and JSON."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

MINIMUM_PASSES = 10  # over the unlabeled images; a row with fewer is too short to judge


class Against(NamedTuple):
    """The row that all others are compared with, by its key, and what it is called."""

    key: str
    told: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the table; numbers by seed, accuracies as shares.

    Attributes:
      key, told: of the row.
      accuracy: of the weights that count: the average where there is one.
      student: of the last weights, where there is an average beside them.
      kept: share of pseudo labels that counted in the last pass.
      right: how many of them were right.
      seconds: of training.
      passes: over the unlabeled images; 0 where the row has none.
    """

    key: str
    told: str
    accuracy: Mapping[int, float]
    student: Mapping[int, float]
    kept: Mapping[int, float]
    right: Mapping[int, float]
    seconds: Mapping[int, float]
    passes: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two rows on the seeds that both have.

    Attributes:
      mean: of the paired differences.
      half: half of its 95 % interval, by Student's t; infinite for one seed.
      seeds: pairs.
    """

    mean: float
    half: float
    seeds: int


def line(key: str, told: str, found: Mapping[int, Mapping[str, float]], *, passes: float) -> Line:
    """A row from the results of its cells, by seed."""

    def each(name: str) -> dict[int, float]:
        return {seed: result[name] for seed, result in found.items() if name in result}

    averaged = each("ema_acc1")
    return Line(
        key=key,
        told=told,
        accuracy=averaged or each("acc1"),
        student=each("acc1") if averaged else {},
        kept=each("mask_rate"),
        right=each("pseudo_label_acc"),
        seconds=each("seconds"),
        passes=passes,
    )


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """one - other over their common seeds; None without any."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    found = [one[seed] - other[seed] for seed in seeds]
    half = math.inf
    if len(found) > 1:
        half = float(stats.t.ppf(0.975, len(found) - 1)) * statistics.stdev(found) / math.sqrt(len(found))
    return Difference(statistics.fmean(found), half, len(found))


def markdown(lines: Sequence[Line], *, against: Against, order: Sequence[str]) -> str:
    """The table, then the differences along an order of rows, if there is one."""
    by_key = {one.key: one for one in lines}
    over = f"over {against.told}"
    head = ["row", "accuracy %", "spread", "seeds", over, "student %", "kept", "right", "passes", "s"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    rows += [_cells(one, by_key.get(against.key)) for one in lines]
    steps = [
        f"- {by_key[after].told} over {by_key[before].told}: {_told(difference)}"
        for before, after in itertools.pairwise(order)
        if before in by_key and after in by_key
        if (difference := paired(by_key[after].accuracy, by_key[before].accuracy))
    ]
    along = ["Along the paper's order, in points:", "", *steps, ""] if order else []
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *along])


def _cells(one: Line, reference: Line | None) -> list[str]:
    accuracy = list(one.accuracy.values())
    gain = paired(one.accuracy, reference.accuracy) if reference is not None and one is not reference else None
    short = 0 < one.passes < MINIMUM_PASSES
    return [
        one.told,
        f"{100 * statistics.fmean(accuracy):.1f}",
        f"{100 * (max(accuracy) - min(accuracy)):.1f}" if len(accuracy) > 1 else "",
        str(len(accuracy)),
        _told(gain) if gain else "",
        _percent(one.student),
        _percent(one.kept),
        _percent(one.right),
        f"{one.passes:g}{' (too short to judge)' if short else ''}" if one.passes else "",
        f"{statistics.fmean(one.seconds.values()):.0f}" if one.seconds else "",
    ]


def _percent(shares: Mapping[int, float]) -> str:
    return f"{100 * statistics.fmean(shares.values()):.1f}" if shares else ""


def _told(difference: Difference) -> str:
    """In points, with the interval where there is one."""
    interval = f" ± {100 * difference.half:.1f}" if math.isfinite(difference.half) else " (one seed)"
    return f"{100 * difference.mean:+.1f}{interval}"


def as_json(lines: Sequence[Line], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, JSON-ready: facts of the study, then each row's numbers by seed."""
    return {**facts, "rows": [dataclasses.asdict(one) for one in lines]}
