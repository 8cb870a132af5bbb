"""Put together all numbers and words of a report: plain values, as its JSON file has them and its page shows them."""

import datetime
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np

from semivit_jax import files
from semivit_jax.inference import grades
from semivit_jax.inference.grades import Answers, Grades
from semivit_jax.ops.confusion import Confusion
from semivit_jax.report import accuracy, advice, of_images, told
from semivit_jax.report.facts import RunFacts, StageFacts, name_of
from semivit_jax.report.intervals import paired
from semivit_jax.report.look import Looked
from semivit_jax.report.of_images import SHOWN
from semivit_jax.stages import STAGES
from semivit_jax.training import head
from semivit_jax.training.head import Probed

MOST_CONFUSED = 10  # pairs of classes that are most often taken for each other
Report = dict[str, Any]
WITHOUT = {  # what a report says where weights or images tell nothing
    "grades": None, "answers": None, "overall": None, "classes": [], "confused": [], "coverage": None,
    "calibration": None, "num_wrong": 0, "mistakes": [], "unsure": [], "labels": None, "twins": None, "map": None,
    "unlike": [],
}  # fmt: skip


def run_numbers(run: RunFacts, probed: Probed | None = None, *, probed_on: str = "") -> Report:
    """What the files of a run say, without a look at its weights and images.

    Args:
      run: what it has written.
      probed: k-NN and linear probe on weights that have seen no label; None takes what the run itself has found.
      probed_on: what these weights are, for people.
    """
    own = head.found_by_probe(run.folder, run.config.stages)
    rows = accuracy.methods(run, probed or own, of=probed_on or "the starting weights")
    return {
        "made": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        "version": importlib.metadata.version("semivit_jax"),
        "run": _run(run),
        "stages": [_stage(stage) for stage in run.stages],
        "accuracy": rows,
        "brought": accuracy.brought(rows),
        "time": _time(run),
        "pseudo_labels": _pseudo_labels(run),
    }


def numbers(run: RunFacts, looked: Looked) -> Report:
    """All that a report says of a run, but for its pictures and curves."""
    report = run_numbers(run, looked.probed, probed_on=looked.probed_on)
    report |= WITHOUT | {"brought": _brought(report["accuracy"], looked)}
    if looked.grades is not None:
        report |= _answers(looked.grades, run)
    if looked.judged:
        report["labels"] = of_images.labels(looked.judged, run.class_names)
    report |= of_images.numbers(looked)
    report["absent"] = dict(looked.absent)
    report["sentences"] = told.sentences(report)
    report["advice"] = advice.given(report)
    return report


def _run(run: RunFacts) -> Report:
    config, listing = run.config, run.listing
    per_class = dict(zip(run.class_names, run.labeled, strict=True))
    return {
        "name": name_of(run.folder),
        "folder": str(run.folder),
        "state": run.state,
        "recipe": config.log.recipe,
        "dataset": config.data.dataset,
        "photos": str(files.path(config.data.root) / config.data.train_split) if config.data.root else "",
        "labels": config.data.labels,
        "evaluated_on": config.data.eval_split or "validation",
        "variant": config.model.variant,
        "image_size": config.data.image_size,
        "init_from": config.init_from,
        "seed": config.seed,
        "num_classes": len(run.class_names),
        "num_labeled": listing.get("num_labeled", 0),
        "num_unlabeled": listing.get("num_unlabeled", 0),
        "num_evaluated": listing.get("num_eval", 0),
        "labeled_per_class": per_class if sum(per_class.values()) else {},
        "remarks": list(run.summary.get("remarks", ())),
        "is_graded": any(STAGES[name].score == "acc1" for name in config.stages),
        "other_scores": _other_scores(run),
    }


def _other_scores(run: RunFacts) -> dict[str, float | None]:
    """Of stages that are graded otherwise than by their share of right answers: 'stage, score' -> the newest."""
    others = {s.name: STAGES[s.name].score for s in run.stages if STAGES[s.name].score not in ("", "acc1")}
    return {f"{name}, {score}": run.stage(name).last(f"val/{score}") for name, score in others.items()}


def _stage(stage: StageFacts) -> Report:
    return {
        "name": stage.name,
        "state": stage.state,
        "step": stage.step,
        "total_steps": stage.plan.get("total_steps", 0),
        "seconds": stage.report.get("seconds", 0.0),
        "first_loss": next((line["train/loss"] for line in stage.lines if "train/loss" in line), None),
        "last_loss": stage.last("train/loss"),
        "gained_at_the_end": _gained(stage),
        "deviations": list(stage.plan.get("deviations", ())),
    }


def _gained(stage: StageFacts) -> float | None:
    """What the last fifth of the updates added to the accuracy; None where too few evaluations tell."""
    found = [(line["step"], line["val/acc1"]) for line in stage.lines if "val/acc1" in line]
    before = [share for step, share in found if step <= 0.8 * stage.step]
    return found[-1][1] - before[-1] if len(found) > 2 and before else None


def _brought(rows: Sequence[Report], looked: Looked) -> Report | None:
    """What the unlabeled images brought; with the interval of the difference where both answered the same images."""
    found = accuracy.brought(rows)
    if found is None or looked.grades is None or looked.before is None:
        return found
    before, after = next(iter(looked.before.answers.values())), next(reversed(looked.grades.answers.values()))
    first = next(row for row in rows if row["ours"])
    if found["from"] != first["method"] or not np.array_equal(before.places, after.places):
        return found
    low, high = paired(before.right, after.right)
    return {**found, "low": 100 * low, "high": 100 * high}


def _time(run: RunFacts) -> Report:
    total = sum(run.seconds.values())
    if not total:
        return {}
    others = {part: seconds for part, seconds in run.seconds.items() if part != "training"}
    return {
        "seconds": dict(run.seconds),
        "total": total,
        "goodput": run.seconds["training"] / total,
        "waiting_share": run.seconds["waiting"] / total,
        "largest_other": max(others, key=lambda part: others[part]),
    }


def _pseudo_labels(run: RunFacts) -> Report | None:
    """How many pseudo labels the last stage that makes some has kept, and how right they were.

    Its 'confidences' are the 10th, 50th and 90th percentile, 'threshold' the value of the key, and 'reached' what a
    confidence had to reach: the threshold, or what a rule that moves it made of it.
    """
    for stage in reversed(run.stages):
        health, kept = STAGES[stage.name].health, stage.last("train/mask_rate")
        if health is None or kept is None:
            continue
        section = run.config.stage(stage.name)
        key, right = health.key(section), stage.last("train/pseudo_label_acc")
        known = any(line.get("train/teacher_acc") for line in stage.lines)
        confidences = [stage.last(f"train/{name}") for name in health.quantiles]
        threshold = getattr(section, key) if key else None
        return {
            "stage": stage.name,
            "kept": kept,
            "right": right if known else None,
            "confidences": confidences if None not in confidences else [],
            "key": f"config.{stage.name}.{key}" if key else "",
            "threshold": threshold,
            "reached": stage.last("train/threshold_median") or threshold,
        }
    return None


def _answers(found: Grades, run: RunFacts) -> Report:
    """Of the weights that predict: the moving average, where there is one."""
    tree = next(reversed(found.found))
    scores, answers = found.found[tree], found.answers[tree]
    wrong = np.flatnonzero(~answers.right)
    surest = wrong[np.argsort(-answers.probs[wrong, 0], kind="stable")][:SHOWN]
    unsure = np.argsort(answers.probs[:, 0], kind="stable")[:SHOWN]
    told = grades.to_json(found)
    return {
        "grades": told,
        "answers": {"tree": tree, "num_images": scores.num_images, **grades.numbers(found, scores)},
        "overall": scores.acc1,
        "classes": accuracy.of_classes(scores, found.class_names, run.labeled),
        "confused": _confused(scores.confusion, found.class_names),
        "coverage": accuracy.abstaining(answers),
        "calibration": _calibration(told["results"][tree]),
        "num_wrong": len(wrong),
        "mistakes": [_answer(found, answers, int(row)) for row in surest],
        "unsure": [_answer(found, answers, int(row)) for row in unsure],
    }


def _calibration(result: Report) -> Report:
    """How far confidences may be trusted: as the model gives them, and at its temperature, where it has one."""
    return {"before": {name: result[name] for name in ("loss", "ece", "bins")}, "after": result.get("calibrated")}


def _answer(found: Grades, answers: Answers, row: int) -> Report:
    names = found.class_names
    return {
        "place": int(answers.places[row]),
        "name": found.images.names[int(answers.places[row])],
        "label": names[answers.labels[row]],
        "guess": names[answers.guesses[row, 0]],
        "confidence": float(answers.probs[row, 0]),
        "second": names[answers.guesses[row, 1]] if answers.guesses.shape[1] > 1 else "",
        "second_confidence": float(answers.probs[row, 1]) if answers.probs.shape[1] > 1 else 0.0,
    }


def _confused(confusion: Confusion, names: Sequence[str]) -> list[Report]:
    """The pairs of classes that are most often taken for each other, by images."""
    pairs = confusion.mistakes.largest(MOST_CONFUSED)
    return [{"label": names[label], "guess": names[guess], "count": count} for label, guess, count in pairs]
