"""Train the study's cells one after the other and print its table; `make study DATA=FOLDER`.

    python -m benchmarks.study --data=CIFAR10 --root=runs/study [--size=small] [--rows=rules]
    python -m benchmarks.study --data=CIFAR10 --root=runs/study --size=features --weights=IMPORT

Each cell is a workdir below ROOT/SIZE with a log beside it. Stopped at any moment, the same command goes on. After
each cell, what the rest will take is forecast from those of the same stage, and table.md and table.json are written.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import cells, from_scratch, images, on_features, table
from benchmarks.study.cells import ON_FEATURES, ORDER, PAPER, RULES, Cell, Place
from benchmarks.study.running import now
from benchmarks.study.sizes import SIZES, Frozen
from benchmarks.study.table import Against

GROUPS = {"paper": list(PAPER), "rules": list(RULES), "all": list(PAPER | RULES)}
UNTRAINED = {"linear_probe": "linear classifier", "knn_probe": "k-NN", "label_spreading": "LabelSpreading"}
# What a run chose and computed, in the files of that name, where the version of the study has them.
KEPT = (from_scratch.THRESHOLD, on_features.HEAD_RATE, on_features.FIXED, "label_spreading.json", "features.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 where the images, or the weights of a frozen network, are missing."""
    parser = argparse.ArgumentParser(prog="benchmarks.study", description="Train the study and print its table.")
    parser.add_argument("--data", type=_folder, default=None)
    parser.add_argument("--root", type=Path, required=True, help="folder of the cells, made where it is missing")
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--rows", choices=tuple(GROUPS), default="paper", help="of a network trained from scratch")
    parser.add_argument("--weights", type=_folder, default=None, help="of `semivit import`, for --size=features")
    parser.add_argument("--table", action="store_true", help="train nothing; the table of what has finished")
    args = parser.parse_args(arguments)
    root = (args.root / args.size).resolve()
    place = Place(args.size, root, root / "images", args.weights)
    if not args.table:
        if wrong := images.check(args.data) or _without_weights(place):
            print(f"benchmarks.study: {wrong}", file=sys.stderr)
            return 2
        images.lay_out(args.data, place.images, SIZES[args.size])
        if _is_frozen(place):
            on_features.run(place, written)
        else:
            from_scratch.run(place, GROUPS[args.rows], written)
    print(written(place))
    return 0


def _folder(text: str) -> Path | None:
    return Path(text).expanduser().resolve() if text else None


def _is_frozen(place: Place) -> bool:
    return isinstance(SIZES[place.size].network, Frozen)


def _without_weights(place: Place) -> str:
    """What is wrong with the weights, in a line; '' where they are not needed or there."""
    if not _is_frozen(place) or (place.weights is not None and (place.weights / "import.json").exists()):
        return ""
    return f"--size={place.size} needs --weights=IMPORT, a folder that `semivit import` has written"


def written(place: Place) -> str:
    """Writes table.md and table.json of what has finished; returns the Markdown."""
    lines = _lines(place)
    text = table.markdown(lines, against=_against(place), order=() if _is_frozen(place) else ORDER)
    (place.root / "table.md").write_text(text)
    (place.root / "table.json").write_text(json.dumps(table.as_json(lines, facts(place)), indent=1) + "\n")
    return text


def _against(place: Place) -> Against:
    return Against("head_fixed", "`fixed`") if _is_frozen(place) else Against("finetune", "fine-tuning")


def _lines(place: Place) -> list[table.Line]:
    """Of every row of which a cell has finished; then what needs no training, on the splits of the supervised cells."""
    size, lines = SIZES[place.size], []
    rows, split, of = (
        (ON_FEATURES, "head", "the features") if _is_frozen(place) else (PAPER | RULES, "finetune", "MAE features")
    )
    for key, row in rows.items():
        if found := _by_seed(key, place):
            passes = size.semi.epochs if row.stage == "semi" else 0.0
            lines.append(table.line(key, row.told, found, passes=passes))
    supervised = _by_seed(split, place)
    beside = {key: {seed: {"acc1": one[key]} for seed, one in supervised.items() if key in one} for key in UNTRAINED}
    spread = {seed: place.root / f"seed_{seed}" / "label_spreading.json" for seed in size.seeds}
    beside["label_spreading"] = {seed: json.loads(p.read_text()) for seed, p in spread.items() if p.exists()}
    return lines + [
        table.line(key, f"{UNTRAINED[key]} on {of}", found, passes=0.0) for key, found in beside.items() if found
    ]


def _by_seed(row: str, place: Place) -> dict[int, dict[str, float]]:
    of = [Cell(row, seed) for seed in SIZES[place.size].seeds]
    return {cell.seed: result for cell, result in cells.finished(of, place)}


def facts(place: Place) -> dict[str, Any]:
    """What the numbers are of."""
    from benchmarks.step import machine

    kept = {name: place.root / name for name in KEPT}
    return {
        "size": place.size,
        "date": now()[:10],
        "cores": os.cpu_count(),
        **machine(),
        "unlabeled": SIZES[place.size].unlabeled,
        **{path.stem: json.loads(path.read_text()) for path in kept.values() if path.exists()},
        "mae_seconds": (cells.result(Cell("mae", 0), place) or {}).get("seconds"),
    }


if __name__ == "__main__":
    sys.exit(main())
