"""Write summary.json, and print the table a run ends with."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from semivit_jax import console
from semivit_jax.config import Config, DataConfig
from semivit_jax.data.dataset import TaskData
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.stages import STAGES
from semivit_jax.training import goodput, head
from semivit_jax.words import counted

BASELINES = {
    "linear probe on the starting weights": "linear_probe",
    "k-NN on the starting weights": "knn_probe",
    "LabelSpreading": "label_spreading",  # these two of the digits
    "SVM on the labeled images": "svm_labeled_only",
}


def summarise(config: Config, task: TaskData, folder: Path, account: goodput.Account) -> dict[str, Any]:
    """Writes and returns summary.json; the digits come with two baselines on the same split.

    Args:
      config: of the run.
      task: its data.
      folder: its workdir.
      account: of its time.
    """
    reports = {s: read_json(folder / s / "report.json") for s in config.stages}
    entries = {s: {k: r[name] for k, name in STAGES[s].summary.items() if name in r} for s, r in reports.items()}
    for stage, found in reports.items():
        published = STAGES[stage].published
        if found.get(published):
            entries[stage][published] = found[published] / 100
    seconds = {s: r["seconds"] for s, r in reports.items()}
    summary = {
        "dataset": config.data.dataset,
        "recipe": config.log.recipe,
        "recipe_origin": config.log.origin,
        "labels_per_class": config.data.labels_per_class,
        "seed": config.seed,
        "num_train": _num_train(config, task),
        "num_labeled": len(task.split.labeled),
        "num_test": len(task.eval),
        "evaluated_on": config.data.eval_split or "validation",
        "stages": entries,
        "baselines": _beside(config, task, folder) if _accuracies_alone(config.stages) else {},
        "remarks": [line for report in reports.values() for line in report.get("remarks", ())],
        "seconds": {**seconds, "total": sum(seconds.values())},
        "goodput": {
            "share": goodput.share(account),
            "starts": account.starts,
            "seconds": goodput.totals(account),
        },
    }
    write_json(folder / "summary.json", summary)
    return summary


def _accuracies_alone(stages: Iterable[str]) -> bool:
    """Whether the stages that are graded are so by top-1 accuracy, as the baselines are."""
    return {STAGES[stage].score for stage in stages} <= {"", "acc1"}


def _beside(config: Config, task: TaskData, folder: Path) -> dict[str, dict[str, float]]:
    """Accuracies of what needs no training: the probe on the starting weights, and on the digits classical methods."""
    probe = head.found_by_probe(folder, config.stages)
    probes = {}
    if probe is not None:
        probes = {"linear_probe": {"acc1": probe.linear_acc1}, "knn_probe": {"acc1": probe.knn_acc1}}
    return {**baselines(task, config.data), **probes}


def _num_train(config: Config, task: TaskData) -> int:
    """Images not held out for the accuracy, which without an evaluation split is that of the validation images."""
    kept_back = task.split.validation if config.data.eval_split else ()
    return len(task.split.training) + len(kept_back)


def print_summary(summary: dict[str, Any]) -> None:
    """The table a run ends with."""
    stages, table = summary["stages"], Table()
    published = any(STAGES[stage].published in entry for stage, entry in stages.items())
    score = "accuracy %" if _accuracies_alone(stages) else "score %"
    for column in ("method", score, *(["published %"] if published else [])):
        table.add_column(column, justify="left" if column == "method" else "right")

    def row(method: str, entry: dict[str, float], key: str, published_key: str) -> None:
        if key in entry:
            told = [f"{100 * entry[published_key]:.1f}" if published_key in entry else ""] if published else []
            table.add_row(method, f"{100 * entry[key]:.1f}", *told)

    for stage, spec in STAGES.items():
        for method, key in spec.rows:
            row(method, stages.get(stage, {}), key, spec.published)
    for method, baseline in BASELINES.items():
        row(method, summary["baselines"].get(baseline, {}), "acc1", "")
    console.say(_title(summary))
    console.console.print(table)
    for remark in summary.get("remarks", ()):  # runs of earlier versions have none
        console.say(f"warning: {remark}")
    seconds = "  ".join(f"{k} {v:.0f}" for k, v in summary["seconds"].items())
    console.say(f"seconds: {seconds}")
    if "goodput" in summary:  # runs of earlier versions do not know
        console.say(_time_told(**summary["goodput"]))


def _time_told(share: float, starts: int, seconds: Mapping[str, float]) -> str:
    """Where the time since the first start went, the largest first, without what took none."""
    rest = sorted((v, k) for k, v in seconds.items() if k != "training" and round(v))
    parts = ", ".join(f"{name} {value:,.0f}" for value, name in reversed(rest))
    whole = f"{sum(seconds.values()):,.0f} s since the first of {counted(starts, 'start')}"
    return f"goodput: {share:.0%} of {whole} went into steps that count" + (
        f"; seconds of the rest: {parts}" if parts else ""
    )


def say_next(config: Config, folder: Path) -> None:
    """Names what shows more of a run that has ended, and after the demo where own photos begin."""
    if "acc1" not in {STAGES[stage].score for stage in config.stages}:  # what follows is for classes
        return
    workdir = shlex.quote(str(folder))
    console.say(f"look closer: semivit eval --workdir={workdir}  (each class, and what it is taken for)")
    console.say(f"use it: semivit predict --workdir={workdir} --images=FOLDER --out=predictions.csv")
    if config.data.dataset == "digits":
        console.say("your own photos: docs/tutorial.md; all settings: semivit train --config=own_folder --help")


def _title(summary: dict[str, Any]) -> str:
    training = counted(summary["num_train"], "training image")
    # Runs of earlier versions do not say on what they were evaluated.
    evaluation = counted(summary["num_test"], f"{summary.get('evaluated_on', 'evaluation')} image")
    return f"{summary['dataset']}: {summary['num_labeled']} labeled of {training}, {evaluation}, seed {summary['seed']}"


def baselines(task: TaskData, data: DataConfig) -> dict[str, dict[str, float]]:
    """What classical methods reach on the same split; none but on the digits."""
    if data.dataset != "digits":
        return {}
    from semivit_jax.training.baselines import digits_baselines  # loads scikit-learn

    return digits_baselines(task, data)
