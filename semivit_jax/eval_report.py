"""What `semivit eval` tells: JSON for programs, tables for people, the protocol with each of them."""

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from semivit_jax import logs
from semivit_jax.evaluation import PROTOCOLS, Evaluation
from semivit_jax.manifest import write_json
from semivit_jax.scores import NUM_BINS, Scores

MOST_ROWS = 20  # classes in a printed table; the JSON has all of them


def write(path: Path, evaluation: Evaluation) -> None:
    """Writes everything, the confusion matrix as rows of [label][prediction] counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, to_json(evaluation))


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Plain dict; shares in 0..1."""
    names = evaluation.class_names
    return {
        "source": evaluation.source,
        "dataset": evaluation.dataset,
        "split": evaluation.split,
        "protocol": evaluation.protocol,
        "class_names": list(names),
        "results": {
            tree: {
                "num_images": found.num_images,
                **_numbers(evaluation, found),
                "class_acc": dict(zip(names, found.class_acc, strict=True)),
                "confusion": found.confusion.tolist(),
            }
            for tree, found in evaluation.found.items()
        },
    }


def show(evaluation: Evaluation) -> None:
    """Prints the numbers, the classes with the lowest accuracy, and the confusions."""
    title = f"{evaluation.source}\n{evaluation.dataset}, split {evaluation.split!r}, by {evaluation.protocol}"
    logs.console.print(_summary(evaluation, title))
    for tree, found in evaluation.found.items():
        logs.console.print(_per_class(evaluation, tree, found))


def _numbers(evaluation: Evaluation, found: Scores) -> dict[str, float]:
    """Votes of neighbours are no probabilities, so they have neither a loss nor a calibration."""
    numbers = {"acc1": found.acc1, "acc5": found.acc5, "loss": found.loss, "ece": found.ece}
    if evaluation.protocol == PROTOCOLS["knn"]:
        del numbers["loss"], numbers["ece"]
    return numbers


def _summary(evaluation: Evaluation, title: str) -> Table:
    calibration = f"ece: expected calibration error, {NUM_BINS} bins"
    shown = [name for found in evaluation.found.values() for name in _numbers(evaluation, found)]
    table = Table(title=title, title_justify="left", caption=calibration if "ece" in shown else None)
    table.add_column("weights")
    for tree, found in evaluation.found.items():
        numbers = _numbers(evaluation, found)
        if len(table.columns) == 1:
            for name in ("images", *(name if name == "loss" else f"{name} %" for name in numbers)):
                table.add_column(name, justify="right")
        told = (f"{value:.4f}" if name == "loss" else _percent(value) for name, value in numbers.items())
        table.add_row(tree, str(found.num_images), *told)
    return table


def _per_class(evaluation: Evaluation, tree: str, found: Scores) -> Table:
    """The confusion matrix where it can be read, and else each class with what it is mostly taken for."""
    names, num_classes = [escape(name) for name in evaluation.class_names], len(evaluation.class_names)
    graded = [i for i in range(num_classes) if found.class_acc[i] is not None]
    whole = num_classes <= MOST_ROWS
    worst = sorted(graded, key=lambda i: found.class_acc[i] or 0.0)[:MOST_ROWS]
    title = f"{tree}: predictions per class" if whole else f"{tree}: the {len(worst)} classes of lowest accuracy"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    table.add_column("acc1 %", justify="right")
    for name in names if whole else ("mostly taken for",):
        table.add_column(name, justify="right" if whole else "left")
    for i in graded if whole else worst:
        row = found.confusion[i]
        if whole:
            cells = [str(count) if count else "" for count in row]
        else:
            wrong = sorted((j for j in range(num_classes) if j != i and row[j]), key=lambda j: -row[j])[:3]
            cells = [", ".join(f"{names[j]} ({row[j]})" for j in wrong)]
        table.add_row(names[i], _percent(found.class_acc[i] or 0.0), *cells)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
