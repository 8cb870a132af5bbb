"""Draw the pictures of the documentation with matplotlib, from photos and from finished runs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

import semivit_jax
from semivit_jax.data.sources.digits import from_raw_pixels, test_indices
from tutorial import seen

WIDTH = 9.0  # inches, of every picture
DOTS = 100  # per inch
RIGHT, WRONG = "#1a7f37", "#cf222e"
CURVES = (  # stage, number in metrics.jsonl, what it is called, colour
    ("finetune", "val/acc1", "fine-tuning", "#57606a"),
    ("semi", "val/acc1", "student", "#1a7f37"),
    ("semi", "val_ema/acc1", "teacher", "#0969da"),
)
LOWEST = 50.0  # percent, where the axis of accuracies begins
mpl.rcParams.update({"font.size": 11, "svg.hashsalt": "semivit_jax"})


def views_picture(photos: Sequence[np.ndarray], file: Path, *, several: int = 3) -> None:
    """Draws photos, each with weak and strong views of it, and with the next photo mixed in.

    Args:
      photos: uint8 [height, width, 3]; at least two.
      file: PNG to write.
      several: views of each kind.
    """
    titles = ["photo", *["weak view"] * several, *["strong view"] * several, "mixed", "mixed, as box"]
    figure, axes = _grid(len(photos), len(titles))
    for row, photo in enumerate(photos):
        drawn = [seen.views(photo, seed) for seed in range(12, 12 + several)]
        other = seen.views(photos[(row + 1) % len(photos)], 14).strong
        mix = seen.mixed(drawn[-1].strong, other, (0.9, 0.6))
        shown = [drawn[0].photo, *(v.weak for v in drawn), *(v.strong for v in drawn), mix.blended, mix.boxed]
        for axis, image in zip(axes[row], shown, strict=True):
            axis.imshow(image)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    _save(figure, file)


def folder_picture(folder: Path, file: Path, *, rows: int = 4, columns: int = 12) -> None:
    """Draws the first photos of a sample folder, in a frame and with the label where they have one."""
    with (folder / "labels.csv").open(newline="") as table:
        labels = {row["path"]: row["label"] for row in csv.DictReader(table)}
    figure, axes = _grid(rows, columns)
    for axis, path in zip(axes.flat, sorted((folder / "photos").iterdir()), strict=False):
        axis.imshow(Image.open(path))
        axis.set_title(labels.get(path.name, " "), fontsize=10, color=RIGHT)  # the space keeps rows apart
        if path.name in labels:
            _frame(axis, RIGHT)
    _save(figure, file)


def predictions_picture(table: Path, photos: Path, file: Path, *, columns: int = 9) -> None:
    """Draws the surest and the least sure predictions of a table of `semivit predict`.

    Args:
      table: predictions.csv.
      photos: the folder predicted, CLASS/NAME, so that what is wrong can be shown.
      file: PNG to write.
      columns: how many of each.
    """
    with table.open(newline="") as lines:
        found = sorted(csv.DictReader(lines), key=lambda row: -float(row["confidence"]))
    figure, axes = _grid(2, columns, title_lines=2)
    for axis, row in zip(axes.flat, [*found[:columns], *found[-columns:]], strict=True):
        axis.imshow(Image.open(photos / row["path"]))
        _told(axis, f"{row['label']}\n{float(row['confidence']):.2f}", right=row["label"] == Path(row["path"]).parts[0])
    _save(figure, file)


def demo_picture(run: Path, file: Path) -> None:
    """Draws how the demo's accuracies grew, and its surest, least sure and wrong answers to digits of the test set.

    Args:
      run: its finished workdir.
      file: PNG to write.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    left, right = np.ravel(np.asarray(figure.subfigures(1, 2, width_ratios=(0.4, 0.6))))
    _curves(left.subplots(), run)
    images, labels = _test_digits()
    guesses = semivit_jax.load(run).predict(images)
    guessed, confidence = np.asarray(guesses.labels), guesses.confidence
    order = np.argsort(-confidence, kind="stable")
    wrong = order[(guessed != labels)[order]]
    classes = np.unique(labels)
    kinds = {
        "the surest answer for each digit": [order[guessed[order] == name][0] for name in classes],
        f"the least sure of {len(labels)}": order[::-1],
        f"wrong answers, the surest first, of {len(wrong)}": wrong,
    }
    for part, (kind, chosen) in zip(right.subfigures(len(kinds), 1), kinds.items(), strict=True):
        part.suptitle(kind, x=0.01, ha="left", fontsize=11, fontweight="bold")
        row = part.subplots(1, len(classes))
        for axis in row[len(chosen) :]:
            axis.axis("off")
        for axis, digit in zip(row, chosen, strict=False):
            _plain(axis)
            axis.imshow(255 - images[digit])
            _told(axis, f"{guessed[digit]}\n{confidence[digit]:.2f}", right=guessed[digit] == labels[digit])
    _save(figure, file)


def _curves(axis: Axes, run: Path) -> None:
    """Draws accuracies of the stages one after the other, over the updates of both, and the baseline's as a line."""
    began, last = 0, []
    for stage in dict.fromkeys(stage for stage, *_ in CURVES):
        lines = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        for _, number, name, colour in (curve for curve in CURVES if curve[0] == stage):
            points = [*last, *((began + line["step"], 100 * line[number]) for line in lines if number in line)]
            axis.plot(*zip(*points, strict=True), label=name, color=colour)
        began += lines[-1]["step"]
        last = points[-1:]  # the next stage, student and teacher, starts with these weights
    baselines = json.loads((run / "summary.json").read_text())["baselines"]
    axis.axhline(100 * baselines["label_spreading"]["acc1"], color="#9a6700", linestyle=":", label="LabelSpreading")
    axis.set(ylim=(LOWEST, 100), xlabel="updates of stages 2 and 3", ylabel="test accuracy %")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=10)


def _test_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [360, 8, 8, 3] that no stage sees, and their labels as text."""
    raw, labels = load_digits(return_X_y=True)
    chosen = test_indices(labels)
    grey = from_raw_pixels(raw.reshape(-1, 8, 8))[chosen]
    return np.repeat(grey[..., None], 3, axis=-1), labels[chosen].astype(str)


def _grid(rows: int, columns: int, *, title_lines: int = 1) -> tuple[Figure, np.ndarray]:
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, rows * (side + 0.2 * title_lines)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        _plain(axis)
    return figure, axes


def _plain(axis: Axes) -> None:
    axis.set(xticks=(), yticks=())


def _told(axis: Axes, text: str, *, right: bool) -> None:
    """What was predicted, in the colour of right or wrong; the frame says it too."""
    axis.set_title(text, fontsize=9, color=RIGHT if right else WRONG, pad=3)
    _frame(axis, RIGHT if right else WRONG)


def _frame(axis: Axes, colour: str) -> None:
    for side in axis.spines.values():
        side.set(color=colour, linewidth=2)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=DOTS, metadata={"Software": None})
