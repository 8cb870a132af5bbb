"""Train the study's cells one after the other and print its table; `make study DATA=FOLDER`.

    python -m benchmarks.study --data=CIFAR10 --root=runs/study [--size=small] [--rows=rules]

Each cell is a workdir below ROOT/SIZE with a log beside it. Stopped at any moment, the same command goes on. After
each cell, what the rest will take is forecast from those of the same stage, and table.md and table.json are written.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import cells, images, table
from benchmarks.study.cells import PAPER, ROWS, RULES, Cell, Place
from benchmarks.study.sizes import SIZES

PROBES = {"linear_probe": "linear classifier on MAE features", "knn_probe": "k-NN on MAE features"}
GROUPS = {"paper": list(PAPER), "rules": list(RULES), "all": list(ROWS)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 where the images are missing."""
    parser = argparse.ArgumentParser(prog="benchmarks.study", description="Train the study and print its table.")
    parser.add_argument("--data", type=lambda text: Path(text).expanduser() if text else None, default=None)
    parser.add_argument("--root", type=Path, required=True, help="folder of the cells, made where it is missing")
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--rows", choices=tuple(GROUPS), default="paper")
    parser.add_argument("--table", action="store_true", help="train nothing; the table of what has finished")
    args = parser.parse_args(arguments)
    place = Place(args.size, (args.root / args.size).resolve(), (args.root / args.size / "images").resolve())
    if not args.table:
        if wrong := images.check(args.data):
            print(f"benchmarks.study: {wrong}", file=sys.stderr)
            return 2
        images.lay_out(args.data, place.images, SIZES[args.size])
        run(place, GROUPS[args.rows])
    print(written(place))
    return 0


def run(place: Place, rows: list[str]) -> None:
    """Trains what has not finished: first what the threshold is chosen by, then one seed after the other."""
    size = SIZES[place.size]
    tuning = cells.tuning_cells(size)
    planned = list(dict.fromkeys([*tuning, *cells.reported_cells(size, rows, 0.0)]))  # a threshold changes no time
    for cell in tuning:
        _train(cell, place, planned)
    from benchmarks.study import spreading  # loads jax, which the cells' own processes do for themselves

    threshold = choose_threshold(place)
    neighbours = spreading.choose(place, tuning[-1])
    for cell in cells.reported_cells(size, rows, threshold):
        _train(cell, place, planned)
        if cell.row == "finetune":
            spreading.grade(place, cell, neighbours)
        written(place)


def choose_threshold(place: Place) -> float:
    """The one whose teacher is best on the validation images, of equal ones the lowest; kept, so never chosen anew."""
    kept = place.root / "threshold.json"
    if not kept.exists():
        size = SIZES[place.size]
        tried = [cell for cell in cells.tuning_cells(size) if cell.row == "ema"]
        found = {cell.threshold: result["ema_acc1"] for cell, result in cells.finished(tried, place)}
        best = max(sorted(found), key=lambda threshold: found[threshold])
        kept.write_text(json.dumps({"threshold": best, "validation accuracy": found}))
    return json.loads(kept.read_text())["threshold"]


def _train(cell: Cell, place: Place, planned: list[Cell]) -> None:
    print(f"{_now()} {cell.name}", flush=True)
    cells.train(cell, place)
    print(forecast(planned, place), flush=True)


def forecast(planned: list[Cell], place: Place) -> str:
    """What is left, by the mean of the finished cells of the same stage; stages without one are named."""
    taken: dict[str, list[float]] = {}
    ended = {cell.name: (cell, result) for cell, result in cells.finished(planned, place)}
    for cell, result in ended.values():
        taken.setdefault(cell.stage, []).append(result["seconds"])
    left = [cell for cell in planned if cell.name not in ended]
    known = [cell for cell in left if cell.stage in taken]
    minutes = sum(statistics.fmean(taken[cell.stage]) for cell in known) / 60
    unknown = sorted({cell.stage for cell in left} - taken.keys())
    beside = f", and those of {', '.join(unknown)}, of which none has finished" if unknown else ""
    return f"{_now()} {len(left)} cells left: about {minutes:.0f} min{beside}"


def written(place: Place) -> str:
    """Writes table.md and table.json of what has finished; returns the Markdown."""
    lines = _lines(place)
    text = table.markdown(lines)
    (place.root / "table.md").write_text(text)
    (place.root / "table.json").write_text(json.dumps(table.as_json(lines, facts(place)), indent=1) + "\n")
    return text


def _lines(place: Place) -> list[table.Line]:
    """Of every row of which a cell has finished; then what needs no training, on the splits of fine-tuning's cells."""
    size, lines = SIZES[place.size], []
    for key, row in ROWS.items():
        if found := _by_seed(key, place):
            passes = size.semi.epochs if row.stage == "semi" else 0.0
            lines.append(table.line(key, row.told, found, passes=passes))
    fine_tuned = _by_seed("finetune", place)
    beside = {key: {seed: {"acc1": one[key]} for seed, one in fine_tuned.items()} for key in PROBES}
    spread = {seed: place.root / f"seed_{seed}" / "label_spreading.json" for seed in size.seeds}
    beside["label_spreading"] = {seed: json.loads(p.read_text()) for seed, p in spread.items() if p.exists()}
    told = {**PROBES, "label_spreading": "LabelSpreading on MAE features"}
    return lines + [table.line(key, told[key], found, passes=0.0) for key, found in beside.items() if found]


def _by_seed(row: str, place: Place) -> dict[int, dict[str, float]]:
    of = [Cell(row, seed) for seed in SIZES[place.size].seeds]
    return {cell.seed: result for cell, result in cells.finished(of, place)}


def facts(place: Place) -> dict[str, Any]:
    """What the numbers are of."""
    from benchmarks.step import machine

    def kept(name: str) -> Any:
        path = place.root / name
        return json.loads(path.read_text()) if path.exists() else None

    return {
        "size": place.size,
        "date": _now()[:10],
        "cores": os.cpu_count(),
        **machine(),
        "unlabeled": SIZES[place.size].unlabeled,
        "threshold": kept("threshold.json"),
        "label_spreading": kept("label_spreading.json"),
        "mae_seconds": (cells.result(Cell("mae", 0), place) or {}).get("seconds"),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    sys.exit(main())
