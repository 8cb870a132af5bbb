"""Part (a): a small ViT with a pre-training of its own, then the paper's rows."""

from collections.abc import Callable

from benchmarks.study.cells import ORDER, ROWS, Cell, Place
from benchmarks.study.running import choose, train
from benchmarks.study.sizes import SIZES, TUNING_SEED, Size

THRESHOLD = "threshold.json"


def run(place: Place, rows: list[str], written: Callable[[Place], str]) -> None:
    """Trains what has not finished: first what the threshold is chosen by, then one seed after the other.

    Args:
      place: of the study.
      rows: keys of ROWS.
      written: writes the table; called after every cell.
    """
    size = SIZES[place.size]
    tuning = tuning_cells(size)
    planned = list(dict.fromkeys([*tuning, *reported_cells(size, rows, 0.0)]))  # a threshold changes no time
    for cell in tuning:
        train(cell, place, planned)
    from benchmarks.study import spreading  # loads jax, which the cells' own processes do for themselves

    threshold = choose(THRESHOLD, [cell for cell in tuning if cell.tuning], place).threshold
    neighbours = spreading.choose(place, tuning[-1], spreading.pre_trained(place, tuning[-1]))
    for cell in reported_cells(size, rows, threshold):
        train(cell, place, planned)
        if cell.row == "finetune":
            spreading.grade(place, cell, neighbours, spreading.pre_trained(place, cell))
        written(place)


def tuning_cells(size: Size) -> list[Cell]:
    """What must be trained before the threshold can be chosen, by the plain EMA-Teacher."""
    tried = [Cell("ema", TUNING_SEED, threshold, tuning=True) for threshold in size.thresholds]
    return [Cell("mae", 0), Cell("finetune", TUNING_SEED), *tried]


def reported_cells(size: Size, rows: list[str], threshold: float) -> list[Cell]:
    """One seed after the other, so that what has finished is a table of paired seeds; the paper's order comes first."""
    in_turn = sorted(rows, key=lambda row: row not in ORDER)
    return [Cell(row, seed, threshold if ROWS[row].stage == "semi" else 0.0) for seed in size.seeds for row in in_turn]
