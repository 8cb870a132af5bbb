"""Say in sentences what was run and how it came out."""

from collections.abc import Mapping
from typing import Any

from semivit_jax.words import counted

Report = Mapping[str, Any]


def sentences(report: Report) -> list[str]:
    """What a person reads first, from the numbers of a report."""
    run = report["run"]
    told = [_what(report)]
    added = report["brought"]
    if added is not None:
        between = f" (95 % interval {added['low']:+.1f} to {added['high']:+.1f})" if "low" in added else ""
        told.append(
            f"From the labels alone, {added['from']} reaches {100 * added['alone']:.1f} %. The unlabeled images "
            f"brought {added['points']:+.1f} points{between}."
        )
    if run["state"] != "finished":
        told.append(_how_far(report))
    return told


def _what(report: Report) -> str:
    run, ours = report["run"], [row for row in report["accuracy"] if row["ours"]]
    if run["other_scores"]:
        scores = [f"{name} {'not yet known' if v is None else f'{v:.3f}'}" for name, v in run["other_scores"].items()]
        return f"The model learns from {counted(run['num_labeled'], 'labeled image')}: {'; '.join(scores)}."
    if not run["is_graded"]:
        return f"The model looked at {_images(run)} without any label, to learn what images are made of{_loss(report)}."
    learned = f"From {_images(run)} the model {'has learned' if run['state'] == 'finished' else 'learns'} to tell "
    learned += f"{counted(run['num_classes'], 'class', 'classes')} apart"
    if not ours:
        return f"{learned}; it has not been evaluated yet."
    row = ours[-1]
    return (
        f"{learned}: it is right on {100 * row['acc1']:.1f} % of {row['num_images']:,} {run['evaluated_on']} images "
        f"(95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f})."
    )


def _images(run: Report) -> str:
    if not run["is_graded"]:
        return counted(run["num_labeled"] + run["num_unlabeled"], "image")
    return f"{counted(run['num_labeled'], 'labeled image')} and {run['num_unlabeled']:,} without a label"


def _loss(report: Report) -> str:
    stage = report["stages"][-1]
    if stage["first_loss"] is None:
        return ""
    return f"; its error fell from {stage['first_loss']:.3g} to {stage['last_loss']:.3g}"


def _how_far(report: Report) -> str:
    stage = next((s for s in report["stages"] if s["state"] != "finished"), report["stages"][-1])
    what = "It trains still" if report["run"]["state"] == "trains" else "It has stopped before its end"
    if not stage["total_steps"]:
        return f"{what}: {stage['name']} has not begun."
    return f"{what}: {stage['name']}, update {stage['step']:,} of {stage['total_steps']:,}."
