"""Compare runs in one page: what they reached, how their settings differ, and whether that is more than chance."""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from semivit_jax import console, files
from semivit_jax.config import flatten
from semivit_jax.files import Path, write_json, writing
from semivit_jax.inference.grades import Grades
from semivit_jax.report import curves, facts, page, told
from semivit_jax.report.curves import NUMBER, SHARE, Curve, Drawn
from semivit_jax.report.facts import RunFacts, StageFacts
from semivit_jax.report.gather import run_numbers
from semivit_jax.report.intervals import paired
from semivit_jax.report.look import EXPECTED, latest_graded

SAME = ("log.", "train.hang", "checkpoint.", "mesh.")  # keys that change nothing of what is learned
CURVES = (
    Curve("Accuracy of the last stage", SHARE, {"val_ema/acc1": "", "val/acc1": ""}, "Of the weights that predict."),
    Curve("Loss of the last stage", NUMBER, {"train/loss": ""}, "Of different losses only the course compares."),
)
Report = dict[str, Any]


def make(folders: Sequence[Path], out: Path) -> None:
    """Writes a page that compares runs, and its numbers as JSON beside it.

    Raises:
      ConfigError: a folder is no run's. ImportError: a package is missing; says how to install it.
    """
    page.check()
    runs = [facts.read(folder) for folder in folders]
    absent: dict[str, str] = {}
    graded: list[Grades | None] = []
    for run in runs:
        try:
            graded.append(latest_graded(run))
        except EXPECTED as error:
            graded.append(None)
            absent[facts.name_of(run.folder)] = str(error).splitlines()[0]
    report = numbers(runs, graded) | {"absent": absent}
    with console.working("drawing the comparison"):
        html = page.render_comparison(report, [figure for curve in CURVES if (figure := _drawn(curve, runs))])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), report)
    with writing(out) as file:
        file.write(html.encode(errors="backslashreplace"))
    console.say(f"comparison: {out}")


def numbers(runs: Sequence[RunFacts], graded: Sequence[Grades | None]) -> Report:
    """All that the page says: for each run what its own report would, and how each differs from the first."""
    each = [run_numbers(run) for run in runs]
    for one in each:
        one["sentences"] = told.sentences(one)
    return {
        "made": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        "version": each[0]["version"],
        "names": _names(runs),
        "runs": each,
        "settings": _settings(runs),
        "differences": _differences(runs, graded),
    }


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """As few of the last parts of each folder as tell them all apart; of one that is named twice, the whole."""
    parts = [files.absolute(run.folder).parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(one[-depth:]) for one in parts]
        if len(set(short)) == len(short):
            return short
    return [str(run.folder) for run in runs]


def _settings(runs: Sequence[RunFacts]) -> list[Report]:
    """Keys of the configs that are not the same in all runs, with the value in each."""
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one if not key.startswith(SAME))
    rows = ([str(one.get(key, "")) for one in flat] for key in keys)
    return [{"key": key, "values": row} for key, row in zip(keys, rows, strict=True) if len(set(row)) > 1]


def _differences(runs: Sequence[RunFacts], graded: Sequence[Grades | None]) -> list[Report]:
    """Accuracy of each run minus that of the first, with its interval, on images that both answered."""
    rows = []
    names, first = _names(runs), graded[0]
    for name, other in zip(names[1:], graded[1:], strict=True):
        if first is None or other is None:
            continue
        before, after = _right(first), _right(other)
        common = sorted(before.keys() & after.keys())
        if not common:
            continue
        old, new = (np.array([of[image] for image in common]) for of in (before, after))
        low, high = paired(old, new)
        rows.append({
            "name": name, "beside": names[0], "num_images": len(common), "points": 100 * float(new.mean() - old.mean()),
            "low": 100 * low, "high": 100 * high, "gained": int((new & ~old).sum()), "lost": int((old & ~new).sum()),
        })  # fmt: skip
    return rows


def _right(graded: Grades) -> dict[str, bool]:
    """Which images the weights that predict get right, by name."""
    answers = next(reversed(graded.answers.values()))
    return {graded.images.names[int(at)]: bool(r) for at, r in zip(answers.places, answers.right, strict=True)}


def _drawn(curve: Curve, runs: Sequence[RunFacts]) -> Drawn | None:
    """One line for each run that has the numbers, of its last stage."""
    points = {}
    for name, run in zip(_names(runs), runs, strict=True):
        line = next((found for key in curve.lines if len(found := _line(run.stages, key)) > 1), None)
        if line:
            points[name] = curves.thinned(line, curves.MOST_POINTS)
    return Drawn(curve, points) if points else None


def _line(stages: Sequence[StageFacts], key: str) -> list[tuple[int, float]]:
    """Of the last stage that has begun."""
    begun = [stage for stage in stages if stage.lines]
    return [(int(line["step"]), line[key]) for line in begun[-1].lines if key in line] if begun else []
