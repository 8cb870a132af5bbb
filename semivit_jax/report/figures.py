"""Draw the figures of a report with matplotlib, each as an SVG that a page holds inside itself."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semivit_jax.report.curves import SECONDS, SHARE, Drawn
from semivit_jax.words import percent

INK, MUTED, FAINT, ACCENT = "#1f2328", "#59636e", "#d1d9e0", "#0b5cad"
# Okabe and Ito's colours, which people who confuse red and green tell apart, without those too light on white.
COLOURS = ("#0b5cad", "#c04f00", "#007a5a", "#a3427c", "#6b5200", "#4c4c4c", "#1f8fb8", "#7a3db8")
DASHES = ("-", "--", ":", "-.")
MOST_LINES = 12  # of a figure with names; of more, all are drawn alike
MOST_CELLS = 30  # classes of a confusion picture with names
MOST_NUMBERS = 16  # classes of one with numbers
# Of the classes on a map: matplotlib's tab20, its ten full colours first, without the two greys.
MAP_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#111111", "#bcbd22", "#17becf",
    "#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#f2d024", "#dbdb8d", "#9edae5",
)  # fmt: skip
NO_COLOUR = "#b5bcc4"  # of other classes, and of images whose class is not known
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eef1f4",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "path",  # what is drawn is what is seen, on every machine
    "svg.hashsalt": "semivit_jax",
}


def curve(drawn: Drawn) -> str:
    """Lines over updates."""
    figure, axis = _figure(3.7, 2.2)
    scale = 100.0 if drawn.curve.unit == SHARE else 1.0
    named = len(drawn.points) <= MOST_LINES
    for number, (name, points) in enumerate(drawn.points.items()):
        steps, values = np.array(points, float).T
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)]} if named else {"color": ACCENT, "alpha": 0.4}
        dash = DASHES[number // len(COLOURS) if len(drawn.points) > len(DASHES) else number] if named else "-"
        axis.plot(steps, scale * values, dash, linewidth=1.6, label=_shortened(name, 24), **look)
    if drawn.curve.unit == SHARE:
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axis.set_ylim(top=min(102.0, axis.get_ylim()[1] + 1))
    if drawn.curve.unit == SECONDS:
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axis.set_xlabel("updates")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.margins(x=0.02)
    if named and len(drawn.points) > 1:
        axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.25), ncols=2, fontsize=8, handlelength=2.2,
                    frameon=False, labelcolor=INK)  # fmt: skip
    return _svg(figure)


def intervals(rows: Sequence[Mapping[str, Any]], *, narrow: bool = False) -> str:
    """Shares as dots with their 95 % intervals, one row for each; keys 'method', 'acc1', 'low', 'high', 'ours'.

    Names stand beside the rows, or above them where the figure is to be as narrow as a phone.
    """
    figure, axis = _figure(3.6, 0.55 + 0.44 * len(rows)) if narrow else _figure(7.2, 0.55 + 0.3 * len(rows))
    names: list[str] = []
    for place, row in enumerate(reversed(rows)):
        colour = ACCENT if row["ours"] else MUTED
        axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2.4, alpha=0.55,
                  solid_capstyle="butt")  # fmt: skip
        axis.plot(100 * row["acc1"], place, "o" if row["ours"] else "D", color=colour, markersize=6)
        name, share = _shortened(row["method"], 44), f"{100 * row['acc1']:.1f}"
        names.append(name)
        if narrow:
            axis.annotate(f"{name}: {share}", (0, place), (0, 7), xycoords=axis.get_yaxis_transform(),
                          textcoords="offset points", fontsize=8.5, color=INK)  # fmt: skip
        else:
            axis.annotate(share, (100 * row["acc1"], place), (0, 5), textcoords="offset points", ha="center",
                          fontsize=8, color=INK)  # fmt: skip
    axis.set_yticks([] if narrow else range(len(rows)), [] if narrow else names, color=INK)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_ylim(-0.6, len(rows) - (0.0 if narrow else 0.2))
    axis.set_xlabel("accuracy %, with the 95 % interval")
    return _svg(figure)


def confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Counts of [label, prediction] as a picture; each row is coloured by its shares."""
    size = len(names)
    side = min(7.2, 1.9 + 0.34 * size) if size <= MOST_CELLS else 5.6
    figure, axis = _figure(side, side * 0.92)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    axis.grid(visible=False)
    if size <= MOST_CELLS:
        short = [_shortened(name, 14) for name in names]
        axis.set_xticks(range(size), short, rotation=0 if max(map(len, short)) <= 2 else 90, color=INK, fontsize=8)
        axis.set_yticks(range(size), short, color=INK, fontsize=8)
    if size <= MOST_NUMBERS:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] > 0.6 else INK
            weight = "normal" if row == column else "bold"
            axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=8,
                      fontweight=weight)  # fmt: skip
    axis.set_xlabel("what the model says")
    axis.set_ylabel("what it is")
    return _svg(figure)


def classes(rows: Sequence[Mapping[str, Any]], overall: float) -> str:
    """Accuracy of each class with its interval, the lowest first; keys 'name', 'acc1', 'low', 'high'."""
    figure, axis = _figure(4.6, 0.6 + 0.24 * len(rows))
    for place, row in enumerate(reversed(rows)):
        below = row["high"] < overall
        colour = COLOURS[1] if below else ACCENT
        axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2, alpha=0.5)
        axis.plot(100 * row["acc1"], place, "s" if below else "o", color=colour, markersize=4.5)
    axis.axvline(100 * overall, color=MUTED, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(rows)), [_shortened(row["name"], 24) for row in reversed(rows)], color=INK, fontsize=8)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_xlabel("accuracy %; dashed: of all images")
    return _svg(figure)


def spread(shares: Sequence[float]) -> str:
    """How the accuracies of many classes are spread."""
    figure, axis = _figure(4.6, 2.4)
    axis.hist(100 * np.asarray(shares), bins=np.linspace(0, 100, 21), color=ACCENT, alpha=0.8, rwidth=0.92)
    axis.set_xlabel("accuracy of a class, %")
    axis.set_ylabel("classes")
    return _svg(figure)


def coverage(covered: Sequence[float], accuracy: Sequence[float], chosen: Sequence[Mapping[str, float]]) -> str:
    """Accuracy of the answers that are given, against the share of images that get one; some points are marked."""
    figure, axis = _figure(4.6, 2.6)
    axis.plot(100 * np.asarray(covered), 100 * np.asarray(accuracy), color=ACCENT, linewidth=1.8)
    for point in chosen:
        axis.plot(100 * point["coverage"], 100 * point["acc1"], "o", color=COLOURS[1], markersize=5)
    axis.set_xlabel("images that get an answer, %")
    axis.set_ylabel("right, of these, %")
    axis.set_xlim(0, 102)
    return _svg(figure)


def reliability(series: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Share of right answers against confidence, by bins; the larger a point, the more images it stands for.

    Args:
      series: name -> bins with 'count', 'confidence' and 'acc1'; the last one is the one that counts.
    """
    figure, axis = _figure(4.6, 3.4)
    axis.plot([0, 100], [0, 100], "--", color=MUTED, linewidth=1)
    for number, (name, bins) in enumerate(series.items()):
        count, sure, right = np.array([[one["count"], one["confidence"], one["acc1"]] for one in bins]).T
        last = number == len(series) - 1
        colour, mark = (ACCENT, "o") if last else (COLOURS[1], "s")
        axis.plot(100 * sure, 100 * right, color=colour, linewidth=1.2, alpha=0.7)
        axis.scatter(100 * sure, 100 * right, s=12 + 160 * count / count.sum(), color=colour, marker=mark, alpha=0.8,
                     linewidths=0, label=name, zorder=3)  # fmt: skip
    if len(series) > 1:
        axis.legend(loc="upper left", fontsize=8, labelcolor=INK, markerscale=0.8)
    axis.set(xlim=(0, 103), ylim=(-3, 103), xlabel="confidence, %", ylabel="right, of these, %")
    return _svg(figure)


def embedding(points: np.ndarray, labels: np.ndarray, labeled: np.ndarray, names: Sequence[str]) -> str:
    """Images as points, coloured by class, -1 grey; those with a label for training as larger, framed ones.

    Args:
      points: float [n, 2].
      labels: int [n], numbers of `names` or -1.
      labeled: bool [n].
      names: of the classes that have a colour of MAP_COLOURS; each is written at the middle of its images, where it
        hides no other name.
    """
    from matplotlib.patheffects import withStroke

    figure, axis = _figure(7.2, 5.6)
    for label in range(-1, len(names)):
        colour = NO_COLOUR if label < 0 else MAP_COLOURS[label]
        chosen, framed = (labels == label) & ~labeled, (labels == label) & labeled
        axis.scatter(*points[chosen].T, s=9, color=colour, alpha=0.65, linewidths=0)
        axis.scatter(*points[framed].T, s=34, color=colour, edgecolors=INK, linewidths=0.9, zorder=3)
    for name, middle in _apart(points, labels, names):
        axis.annotate(name, middle, ha="center", va="center", fontsize=11, fontweight="bold", zorder=4,
                      path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip
    axis.set(xticks=(), yticks=())
    axis.grid(visible=False)
    for side in axis.spines.values():
        side.set_visible(False)
    return _png(figure) if len(points) > 600 else _svg(figure)


def _apart(points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Names with the middle of their images, the class with the most images first; without those that would overlap."""
    span = np.maximum(np.ptp(points, axis=0), 1e-12) if len(points) else np.ones(2)
    found: list[tuple[str, np.ndarray]] = []
    for label in np.argsort(-np.bincount(labels[labels >= 0], minlength=len(names)), kind="stable"):
        here = points[labels == label]
        if not len(here):
            continue
        middle = here[np.linalg.norm(here - np.median(here, axis=0), axis=1).argmin()]
        own = _shortened(names[int(label)], 20)
        offsets = [(np.abs(middle - other) / span, len(name) + len(own)) for name, other in found]
        # A letter is about 0.018 of the figure wide, a line 0.045 high.
        if all(x > 0.009 * letters or y > 0.045 for (x, y), letters in offsets):
            found.append((own, middle))
    return found


def time_spent(seconds: Mapping[str, float]) -> str:
    """Where the time went, a bar for each part, the longest first."""
    parts = sorted(((v, k) for k, v in seconds.items() if v >= 0.5), reverse=False)
    figure, axis = _figure(4.6, 0.6 + 0.26 * len(parts))
    total = sum(seconds.values()) or 1.0
    for place, (value, name) in enumerate(parts):
        axis.barh(place, value, color=ACCENT if name == "training" else "#9aa7b4", height=0.66)
        axis.annotate(f"{value:,.0f} s, {percent(value / total)}", (value, place), (4, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axis.set_yticks(range(len(parts)), [name for _, name in parts], color=INK)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_xlim(right=1.28 * max((value for value, _ in parts), default=1.0))
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    return _svg(figure)


def _shortened(text: str, most: int) -> str:
    """The text, without its middle where it is longer than so many signs."""
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[-(most // 2) :]}"


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Any) -> str:
    return _encoded(figure, "svg", "image/svg+xml", metadata={"Date": None, "Creator": None})


def _png(figure: Any) -> str:
    """Of many points, which would be large as SVG."""
    return _encoded(figure, "png", "image/png", dpi=160, metadata={"Software": None})


def _encoded(figure: Any, kind: str, mime: str, **options: Any) -> str:
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format=kind, bbox_inches="tight", pad_inches=0.04, **options)
    return f"data:{mime};base64,{base64.b64encode(file.getvalue()).decode()}"
