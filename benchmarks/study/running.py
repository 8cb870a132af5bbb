"""Train cells one after the other, choose among those that were tried, and forecast what is left."""

import datetime
import json
import statistics
from collections.abc import Callable

from benchmarks.study import cells
from benchmarks.study.cells import Cell, Place

Train = Callable[[Cell, Place], None]


def train(cell: Cell, place: Place, planned: list[Cell], *, by: Train = cells.train) -> None:
    """Trains a cell to its end and prints what those that are `planned` will take.

    Args:
      cell: left as it is where it has finished.
      place: of the study.
      planned: all cells.
      by: what trains it.
    """
    print(f"{now()} {cell.name}", flush=True)
    by(cell, place)
    print(forecast(planned, place), flush=True)


def choose(file: str, tried: list[Cell], place: Place) -> Cell:
    """The cell that is best on the validation images, of equal ones the first; kept, so never chosen anew.

    Args:
      file: below the study's folder, that keeps the choice.
      tried: cells that have finished.
      place: of the study.
    """
    kept = place.root / file
    if not kept.exists():
        found = {cell.name: _accuracy(result) for cell, result in cells.finished(tried, place)}
        best = max(found, key=lambda name: found[name])
        kept.write_text(json.dumps({"chosen": best, "validation accuracy": found}, indent=1) + "\n")
    chosen = json.loads(kept.read_text())["chosen"]
    return next(cell for cell in tried if cell.name == chosen)


def _accuracy(result: dict[str, float]) -> float:
    """Of the average where there is one, as in the table."""
    return result["ema_acc1"] if "ema_acc1" in result else result["acc1"]


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
    return f"{now()} {len(left)} cells left: about {minutes:.0f} min{beside}"


def now() -> str:
    """Date and time, UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
