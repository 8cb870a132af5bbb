"""Lay out a report as one HTML file that holds everything it shows: figures, photos, style."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semivit_jax.hosts import extras
from semivit_jax.inference.grades import MOST_IN_MATRIX
from semivit_jax.report import curves, figures, photos, sample
from semivit_jax.report.curves import SHARE, Drawn
from semivit_jax.report.facts import RunFacts
from semivit_jax.report.look import PROBES, Looked
from semivit_jax.report.sample import GRADED, LABELED, UNLABELED
from semivit_jax.stages.pictures import Panel
from semivit_jax.words import percent

MOST_CLASSES = 40  # that a figure of accuracies by class can hold
ROWS = 12  # of a table that the page does not show whole
Report = Mapping[str, Any]
NEEDED = ("jinja2", "matplotlib")


def check() -> None:
    """Raises ImportError, with what to do, where a package that a page is made with is not installed."""
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        raise ImportError(f"a report needs {' and '.join(NEEDED)}: {extras.install_line('report')}")


def render(report: Report, run: RunFacts, looked: Looked) -> str:
    """The page of one run."""
    drawn = {stage.name: curves.drawn(stage, run.class_names) for stage in run.stages}
    return _template("page.html", report).render(
        report=report,
        curves=[{"stage": name, "figures": [_curve(one) for one in found]} for name, found in drawn.items() if found],
        rows=ROWS,
        probes=PROBES,
        pairs=report["run"]["num_classes"] > MOST_IN_MATRIX,
        **_figures(report, looked),
        **_photos(report, run, looked),
    )


def render_comparison(report: Report, drawn: Sequence[Drawn]) -> str:
    """The page of several runs."""
    rows = [
        {**row, "method": f"{name}: {row['method']}"}
        for name, run in zip(report["names"], report["runs"], strict=True)
        for row in run["accuracy"]
        if row["ours"]
    ]
    return _template("compare.html", report).render(
        report=report,
        curves=[_curve(one) for one in drawn],
        methods_figure=figures.intervals(rows) if rows else "",
        narrow_methods_figure=figures.intervals(rows, narrow=True) if rows else "",
    )


def _template(name: str, report: Report) -> Any:
    """A template in which `n(path, format)` writes a number of the report, so that page and JSON cannot differ."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("semivit_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["n"] = lambda path, kind: number(report, path, kind)
    environment.globals["colours"] = figures.MAP_COLOURS
    environment.globals["no_colour"] = figures.NO_COLOUR
    environment.filters["name"] = printable
    return environment.get_template(name)


FORMATS = {
    "percent": lambda value: f"{100 * value:.1f} %",
    "bare percent": lambda value: f"{100 * value:.1f}",
    "share": lambda value: (
        f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"
    ),  # of many classes small
    "points": lambda value: f"{value:+.1f}",
    "count": lambda value: f"{value:,}",
    "decimals": lambda value: f"{value:.4f}",
    "seconds": lambda value: f"{value:,.0f} s",
}


def number(report: Report, path: str, kind: str) -> Any:
    """A number as HTML: `<data value="0.9556" data-key="accuracy.2.acc1">95.6 %</data>`."""
    from markupsafe import Markup

    value: Any = report
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, Sequence) else value[part]
    return Markup('<data value="{}" data-key="{}">{}</data>').format(value, path, FORMATS[kind](value))


def printable(text: str) -> str:
    """A name as it can be shown: bytes that are no UTF-8, and signs that turn or break a line, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _curve(one: Drawn) -> dict[str, str]:
    """A figure with its words."""
    percent = one.curve.unit == SHARE

    def value(number: float) -> str:
        return f"{100 * number:.1f} %" if percent else f"{number:.3g}"

    ends = [f"{name} from {value(line[0][1])} to {value(line[-1][1])}" for name, line in list(one.points.items())[:4]]
    alt = f"Line chart over updates. {one.curve.title}: {'; '.join(ends)}."
    return {"src": figures.curve(one), "alt": printable(alt), "title": one.curve.title, "told": one.curve.told}


def _figures(report: Report, looked: Looked) -> dict[str, str]:
    """Addresses of the figures beside the curves; '' where there is nothing to draw."""
    rows = report["classes"]
    found = {
        "methods": figures.intervals(report["accuracy"]) if report["accuracy"] else "",
        "narrow_methods": figures.intervals(report["accuracy"], narrow=True) if report["accuracy"] else "",
        "time": figures.time_spent(report["time"]["seconds"]) if report["time"] else "",
        "confusion": "", "classes": "", "coverage": "", "reliability": "", "map": "",
    }  # fmt: skip
    if looked.grades is not None:
        confusion, names = looked.grades.found[report["answers"]["tree"]].confusion, looked.grades.class_names
        chosen = np.arange(len(names))
        if len(names) > figures.MOST_CELLS:  # those with the most mistakes
            chosen = np.sort(np.argsort(-confusion.mistakes.involved, kind="stable")[: figures.MOST_CELLS])
        found["confusion"] = figures.confusion(confusion.matrix(chosen), [printable(names[k]) for k in chosen])
        named = [{**row, "name": printable(row["name"])} for row in rows]
        found["classes"] = (
            figures.classes(named, report["overall"])
            if len(rows) <= MOST_CLASSES
            else figures.spread([row["acc1"] for row in rows])
        )
        covered = report["coverage"]
        found["coverage"] = figures.coverage(covered["coverage"], covered["acc1"], covered["chosen"])
        sure = {"as trained": report["calibration"]["before"], "calibrated": report["calibration"]["after"]}
        found["reliability"] = figures.reliability({name: one["bins"] for name, one in sure.items() if one})
    if looked.layout is not None and looked.task is not None:
        found["map"] = _map(looked, [one["number"] for one in report["map"]["classes"]])
    return {f"{name}_figure": address for name, address in found.items()}


def _map(looked: Looked, classes: Sequence[int]) -> str:
    """The layout, with a colour for each of these classes."""
    assert looked.layout is not None
    assert looked.task is not None
    _, labels, rows = sample.joined(looked.sample, LABELED, GRADED, UNLABELED)
    place = {label: number for number, label in enumerate(classes)}
    shown = looked.layout.rows
    coloured = np.array([place.get(int(label), -1) for label in labels[shown]])
    labeled = np.array([rows[row][0] == LABELED for row in shown])
    names = [printable(looked.task.class_names[label]) for label in classes]
    return figures.embedding(looked.layout.points, coloured, labeled, names)


def _photos(report: Report, run: RunFacts, looked: Looked) -> dict[str, Any]:
    """Pictures beside what the report says of them, in the same order."""
    data = run.config.data
    found: dict[str, Any] = {"mistakes": [], "unsure": [], "suspects": [], "twins": [], "unlike": []}
    if looked.grades is not None:
        for kind in ("mistakes", "unsure"):
            places = [one["place"] for one in report[kind]]
            found[kind] = photos.of_set(looked.grades.images, places, data)
    for one in (report["labels"] or {"suspects": []})["suspects"][: 2 * ROWS]:
        seen = looked.judged[one["role"]].seen
        found["suspects"] += photos.of_set(seen.images, seen.places[[one["row"]]], data)
    for one in (report["twins"] or {"pairs": []})["pairs"][:ROWS]:
        first, second = looked.drawn[GRADED], looked.drawn[one["role"]]
        (left,) = photos.of_set(first.images, first.places[[one["row"]]], data)
        (right,) = photos.of_set(second.images, second.places[[one["other_row"]]], data)
        found["twins"].append((left, right))
    if report["unlike"]:
        seen, rows = looked.sample[UNLABELED], [one["row"] for one in report["unlike"][:ROWS]]
        found["unlike"] = photos.of_set(seen.images, seen.places[rows], data)
    panels = [_panels(name, several, run.class_names) for name, several in looked.panels.items()]
    return {"panels": panels, **{f"{kind}_photos": pictures for kind, pictures in found.items()}}


def _panels(stage: str, several: Sequence[Panel], names: Sequence[str]) -> dict[str, Any]:
    """What a stage makes of images, a row for each point of their way."""
    rows = []
    for panel in several:
        cells = []
        for number, image in enumerate(panel.images):
            words = "" if panel.targets is None else _shares(panel.targets[number], names)
            counts = panel.weights is None or panel.weights[number] > 0
            cells.append({"src": photos.encoded(image), "words": words, "counts": counts})
        rows.append({"title": panel.title, "cells": cells})
    return {"stage": stage, "rows": rows}


def _shares(target: np.ndarray, names: Sequence[str]) -> str:
    """The classes of a target, the largest first: 'cat: 62 %, dog: 31 %'; the name alone where it is all of it."""
    order = [int(k) for k in np.argsort(-target, kind="stable")[:2] if target[k] >= 0.05]
    if len(order) == 1 and target[order[0]] > 0.995:
        return printable(names[order[0]])
    return ", ".join(f"{printable(names[k])}: {percent(target[k])}" for k in order)
