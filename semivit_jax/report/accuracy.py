"""Work out the shares that a report tells: of methods, of classes, and of the answers that are sure enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semivit_jax.inference.grades import Answers
from semivit_jax.ops.scores import Scores
from semivit_jax.report.facts import RunFacts, StageFacts
from semivit_jax.report.intervals import wilson
from semivit_jax.stages import STAGES
from semivit_jax.training.head import Probed
from semivit_jax.training.summary import BASELINES

COVERED = (1.0, 0.95, 0.9, 0.8, 0.5)  # shares of images that get an answer, in the table
MOST_POINTS = 200  # of the line
LEAST_ANSWERS = 20  # that the line begins with; the shares of fewer say little
LABELS_ALONE = ("svm_labeled_only",)  # of BASELINES, what looks at no unlabeled image


def methods(run: RunFacts, probed: Probed | None, *, of: str) -> list[dict[str, Any]]:
    """A row for what needs no training, then one for each method of each stage, as far as it has come.

    Args:
      run: what it has written.
      probed: k-NN and linear probe on the weights before the first label; None where there are none.
      of: where these weights come from, for people.
    """
    rows, count = [], int(run.listing.get("num_eval", 0))
    if not any(STAGES[name].score == "acc1" for name in run.config.stages):
        return rows
    baselines = dict(run.summary.get("baselines", {}))
    for method, key in BASELINES.items():
        if key in ("linear_probe", "knn_probe"):
            continue
        if key in baselines:
            rows.append(_row(method, baselines[key]["acc1"], count, ours=False, labels_alone=key in LABELS_ALONE))
    if probed is not None:
        rows.append(_row(f"k-NN on {of}", probed.knn_acc1, probed.num_graded, ours=False, labels_alone=True))
        rows.append(_row(f"linear probe on {of}", probed.linear_acc1, probed.num_graded, ours=False, labels_alone=True))
    for stage in run.scored():
        rows += _of_stage(stage, count)
    return rows


def _of_stage(stage: StageFacts, count: int) -> list[dict[str, Any]]:
    spec, rows = STAGES[stage.name], []
    alone = stage.last("train/mask_rate") is None
    for method, entry in spec.rows:
        share = stage.last(spec.summary[entry])
        if share is not None:
            step = "" if stage.report else f", so far (update {stage.step:,})"
            rows.append(_row(f"{method}{step}", share, count, ours=True, labels_alone=alone))
    return rows


def _row(method: str, share: float, count: int, *, ours: bool, labels_alone: bool) -> dict[str, Any]:
    low, high = wilson(share, count)
    told = {"method": method, "acc1": share, "low": low, "high": high, "num_images": count}
    return {**told, "ours": ours, "labels_alone": labels_alone}


def of_classes(scores: Scores, names: Sequence[str], labeled: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each class that has an image to grade, the lowest accuracy first."""
    rows, graded, right = [], scores.confusion.per_class, scores.confusion.right
    for number in np.flatnonzero(graded).tolist():
        total = int(graded[number])
        share = int(right[number]) / total
        low, high = wilson(share, total)
        wrong = scores.confusion.of_label(number).mistakes.largest(3)
        rows.append({
            "name": names[number],
            "labeled": int(labeled[number]) if number < len(labeled) else 0,
            "graded": total,
            "right": int(right[number]),
            "acc1": share,
            "low": low,
            "high": high,
            "taken_for": [{"name": names[k], "count": count} for _, k, count in wrong],
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["acc1"], -row["graded"]))


def abstaining(answers: Answers) -> dict[str, Any]:
    """Accuracy of the surest answers, by the share of images that get one (El-Yaniv and Wiener 2010).

    Equally sure answers are given together, so the share of a row is the nearest one that a confidence allows.
    """
    order = np.argsort(-answers.probs[:, 0], kind="stable")
    sure, right = answers.probs[order, 0], answers.right[order]
    given = np.arange(1, len(order) + 1)
    share = np.cumsum(right) / given
    last = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))  # of each confidence, the last image that has it
    drawn = last[given[last] >= min(LEAST_ANSWERS, len(order) // 4)]
    places = drawn[np.unique(np.linspace(0, len(drawn) - 1, min(MOST_POINTS, len(drawn))).round().astype(int))]
    chosen = []
    for covered in COVERED:
        place = int(last[np.abs(given[last] / len(order) - covered).argmin()])
        chosen.append({
            "coverage": float(given[place] / len(order)),
            "acc1": float(share[place]),
            "confidence": float(sure[place]),
            "answered": int(given[place]),
        })  # fmt: skip
    return {
        "coverage": (given[places] / len(order)).tolist(),
        "acc1": share[places].tolist(),
        "chosen": chosen,
    }


def brought(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the last method has over one that learned from the labels alone; None where there are not both.

    That is the run's own stage on these labels, or without one the best of the methods beside it.
    """
    ours = [row for row in rows if row["ours"]]
    alone = [row for row in rows[:-1] if row["labels_alone"]]
    if not ours or not alone or ours[-1]["labels_alone"]:
        return None
    found = max(alone, key=lambda row: (row["ours"], row["acc1"]))
    return {
        "from": found["method"],
        "alone": found["acc1"],
        "by": ours[-1]["method"],
        "points": 100 * (ours[-1]["acc1"] - found["acc1"]),
    }
