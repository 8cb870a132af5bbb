"""Say what to do next: the table RULES, each a function of the report's own numbers, with the reason."""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from semivit_jax.words import counted, percent

Report = Mapping[str, Any]
WIDE_POINTS = 8.0  # an interval of the accuracy wider than this cannot tell one recipe from another
RISING_POINTS = 1.0  # that the last fifth of a stage still brought
LOW_KEPT = 0.3  # share of pseudo labels below which most unlabeled images teach nothing
WRONG_KEPT = 0.85  # share of right pseudo labels below which they teach much that is wrong
MOSTLY = 0.5  # share of right ones below which pseudo labels would be wrong more often than right
MUCH_WAITING = 0.3  # share of the time that updates wait for images
LOW_GOODPUT = 0.5
UNSURE_ECE = 0.1  # calibration error above which confidences mislead
MOST_NAMED = 5


class Advice(NamedTuple):
    """What to do, why, and the command for it; '' where there is none."""

    do: str
    why: str
    command: str = ""


def given(report: Report) -> list[dict[str, str]]:
    """What the numbers of a report suggest, the most useful first."""
    return [advice._asdict() for rule in RULES for advice in rule(report)]


def go_on(report: Report) -> Iterator[Advice]:
    """A run that has stopped early goes on by its own command."""
    if report["run"]["state"] == "stopped":
        stage = next((s for s in report["stages"] if s["state"] != "finished"), None)
        where = f"in {stage['name']}, update {stage['step']:,}" if stage else "before its end"
        yield Advice(
            "Start the same command again.", f"The run has stopped {where}; it goes on from its last checkpoint."
        )


def check_labels(report: Report) -> Iterator[Advice]:
    found = report.get("labels") or {}
    if found.get("suspects"):
        count = len(found["suspects"])
        names = ", ".join(one["name"] for one in found["suspects"][:MOST_NAMED])
        yield Advice(
            f"Look at {counted(found['num_suspects'], 'label')} that may be wrong: {names}"
            + (" and others above." if count > MOST_NAMED else "."),
            f"Of {found['checked']:,} that were judged, a fit without them gives another class; it guesses "
            f"{percent(found['right'])} of them as they are. A wrong label is learned as if it were right, and a wrong "
            "evaluation label counts a right answer as a mistake.",
        )


def part_twins(report: Report) -> Iterator[Advice]:
    found = report.get("twins") or {}
    if found.get("pairs"):
        yield Advice(
            f"Keep near duplicates on one side of the split: {counted(found['num_images'], 'evaluation image')} with a "
            "twin among those that are learned from.",
            "The accuracy of images that were seen in training flatters the model.",
        )


def label_classes(report: Report) -> Iterator[Advice]:
    rows, overall = report.get("classes") or [], report.get("overall")
    weak = [row for row in rows if overall is not None and row["high"] < overall]
    if weak:
        named = ", ".join(f"{row['name']} ({percent(row['acc1'])})" for row in weak[:MOST_NAMED])
        confused = next((row for row in weak if row["taken_for"]), None)
        mostly = f" {confused['name']} is mostly taken for {confused['taken_for'][0]['name']}." if confused else ""
        yield Advice(
            f"Label more images of {named}.",
            f"Their accuracy lies below that of all images by more than chance.{mostly}",
        )
    elif rows and len(rows) > 1 and rows[0]["acc1"] < rows[-1]["acc1"]:
        row = rows[0]
        wrong = f", mostly taken for {row['taken_for'][0]['name']}" if row["taken_for"] else ""
        yield Advice(
            f"If you label more, begin with {row['name']}.",
            f"It has the lowest accuracy ({row['right']} of {row['graded']} right{wrong}), with "
            f"{counted(row['labeled'], 'labeled image')}; the interval still holds that of all images.",
        )


def balance(report: Report) -> Iterator[Advice]:
    per_class = report["run"].get("labeled_per_class") or {}
    if not per_class:
        return
    fewest, most = min(per_class.values()), max(per_class.values())
    if most >= 5 * max(fewest, 1):
        few = [name for name, count in per_class.items() if count == fewest]
        yield Advice(
            f"Label more images of the rare classes, {', '.join(few[:MOST_NAMED])} first.",
            f"Classes have from {fewest:,} to {most:,} labeled images; pseudo labels favour those with many.",
        )


def evaluate_on_more(report: Report) -> Iterator[Advice]:
    ours = [row for row in report["accuracy"] if row["ours"]]
    if ours and 100 * (ours[-1]["high"] - ours[-1]["low"]) > WIDE_POINTS:
        row = ours[-1]
        yield Advice(
            "Keep more labeled images for evaluation.",
            f"With {counted(row['num_images'], 'image')} the accuracy may be anything from {100 * row['low']:.1f} to "
            f"{100 * row['high']:.1f} %: too wide to choose between recipes.",
        )
    if not ours and not report["run"].get("num_evaluated") and report["run"]["num_labeled"]:
        yield Advice("Keep labeled images back for evaluation.", "Without them nobody knows how right the model is.")


def train_otherwise(report: Report) -> Iterator[Advice]:
    """Where the stage with unlabeled images did not help, or simpler methods do better."""
    added, ours = report.get("brought"), [row for row in report["accuracy"] if row["ours"]]
    simple = [row for row in report["accuracy"] if not row["ours"] and row["acc1"] > (ours[-1]["acc1"] if ours else 1)]
    if simple:
        best = max(simple, key=lambda row: row["acc1"])
        method = best["method"][:1].upper() + best["method"][1:]
        yield Advice(
            "Change less of the weights: model.tune=head or lora, model.head_init=probe, or a lower base_lr.",
            f"{method} reaches {100 * best['acc1']:.1f} %, the run ends with {100 * ours[-1]['acc1']:.1f} %.",
        )
    elif added and added["points"] < 0:
        yield Advice(
            "Look at the pseudo labels before training longer.",
            f"The unlabeled images took {-added['points']:.1f} points away from {added['from']}.",
        )


def move_threshold(report: Report) -> Iterator[Advice]:
    """Where few pseudo labels count, or wrong ones; what is suggested keeps half of them or more."""
    found = report.get("pseudo_labels")
    if not found or not found["key"] or not found["confidences"] or not found["reached"]:
        return
    key, value, kept = found["key"], found["threshold"], found["kept"]
    right = found["right"] if kept > 0 and found["right"] is not None else 1.0  # nothing speaks against them
    scale = value / found["reached"]  # a rule that moves the threshold lowers all of it with its key
    half = rounded_down(found["confidences"][1] * scale)
    few, wrong = kept < LOW_KEPT, right < WRONG_KEPT
    surer = _right_of_the_surer_half(report)
    told = f"the teacher's median confidence is {found['confidences'][1]:.2g}"
    if few and wrong:
        yield Advice(
            f"Label more images, or start from better weights, before you move {key}.",
            f"Only {percent(kept)} of the pseudo labels counted, and {percent(right)} of these were right: a lower "
            "threshold lets in answers that are less sure, a higher one leaves hardly any.",
        )
    elif few and surer is not None and surer < MOSTLY:
        yield Advice(
            f"Label more images, or start from better weights, before you move {key}.",
            f"Only {percent(kept)} of the pseudo labels counted, but a threshold that keeps half of them would teach "
            f"mistakes: of the surer half of the answers to evaluation images {percent(surer)} are right.",
        )
    elif few and 0 < half < value:
        share = share_above(found["confidences"], half / scale)
        yield Advice(
            f"Lower {key} from {value:g}, for a start to {half:.2g}.",
            f"Only {percent(kept)} of the pseudo labels counted; {told}. Of the last ones about {percent(share)} would "
            "count.",
        )
    elif wrong and value < 0.95 and (suggested := min(0.95, value + 0.1, half)) > value:
        share = share_above(found["confidences"], suggested / scale)
        yield Advice(
            f"Raise {key} from {value:g}, for a start to {suggested:.2g}.",
            f"Of the pseudo labels that counted {percent(right)} were right: the others teach mistakes. Of the "
            f"last ones about {percent(share)} would still count; {told}.",
        )


def _right_of_the_surer_half(report: Report) -> float | None:
    """The share of right ones among the surer half of the answers to evaluation images; None where there are none."""
    chosen = (report.get("coverage") or {}).get("chosen", ())
    return min(chosen, key=lambda row: abs(row["coverage"] - 0.5))["acc1"] if chosen else None


def rounded_down(value: float) -> float:
    """The value to two digits, never above it; 0 of what is not positive."""
    if value <= 0:
        return 0.0
    digits = 1 - math.floor(math.log10(value))
    return round(math.floor(value * 10**digits + 1e-9) / 10**digits, digits)


def share_above(confidences: Sequence[float], threshold: float) -> float:
    """About which share of confidences reaches a threshold, by their 10th, 50th and 90th percentile."""
    just_below = np.nextafter(threshold, 0.0)  # what is equal to it reaches it
    return float(np.interp(just_below, confidences, [0.9, 0.5, 0.1]))


def train_longer(report: Report) -> Iterator[Advice]:
    for stage in report["stages"]:
        gained = stage.get("gained_at_the_end")
        if stage["state"] == "finished" and gained is not None and 100 * gained > RISING_POINTS:
            yield Advice(
                f"Train longer: more config.{stage['name']}.epochs.",
                f"The last fifth of {stage['name']} still brought {100 * gained:.1f} points.",
            )


def doubt_confidences(report: Report) -> Iterator[Advice]:
    found = report.get("calibration")
    if found is None:
        return
    told = found["after"] or found["before"]  # what semivit predict tells
    if told["ece"] > UNSURE_ECE:
        yield Advice(
            "Do not take the confidences at their word; choose a bar from the table of abstaining instead.",
            f"Confidence and share of right answers differ by {100 * told['ece']:.0f} points on average.",
        )


def spare_time(report: Report) -> Iterator[Advice]:
    time = report.get("time") or {}
    if time.get("waiting_share", 0.0) > MUCH_WAITING:
        yield Advice(
            "Feed images faster: more config.data.threads, smaller files, or a prepared data set (semivit prepare).",
            f"{percent(time['waiting_share'])} of the time updates waited for images.",
        )
    if time.get("goodput") and time["goodput"] < LOW_GOODPUT and time["total"] > 600:
        yield Advice(
            f"Look at where the time went: {time['largest_other']}.",
            f"{percent(time['goodput'])} of the time since the first start went into updates that count.",
        )


def label_next(report: Report) -> Iterator[Advice]:
    """The next round: the images that the model is least sure of, or that are like none that has a label."""
    if report.get("unlike"):
        run = report["run"]
        photos, table, folder = map(shlex.quote, (run["photos"], run["labels"] or "labels.csv", run["folder"]))
        guesses = f" --from={folder}" if run["is_graded"] else ""
        command = f"semivit label --images={photos} --labels={table}{guesses}" if run["photos"] else ""
        yield Advice(
            "Label some of the unlabeled images that are least like any labeled one, or say that they belong to none.",
            "What a model has never been told of, it learns from its own guesses alone.",
            command,
        )


Rule = Callable[[Report], Iterator[Advice]]
RULES: tuple[Rule, ...] = (
    go_on, check_labels, part_twins, move_threshold, train_otherwise, label_classes, balance, train_longer,
    evaluate_on_more, doubt_confidences, spare_time, label_next,
)  # fmt: skip
