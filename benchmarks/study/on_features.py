"""Part (b): a head on frozen features of imported weights, then every rule from it, against the tuned threshold."""

import functools
import itertools
from collections.abc import Callable

from benchmarks.study import images, running
from benchmarks.study.cells import ON_FEATURES, Cell, Place
from benchmarks.study.running import choose
from benchmarks.study.sizes import SIZES, TUNING_SEED, Size

HEAD_RATE, FIXED = "head.json", "fixed.json"


def run(place: Place, written: Callable[[Place], str]) -> None:
    """Computes features, chooses rates and threshold on the validation images, then trains one row after the other.

    Args:
      place: of the study.
      written: writes the table; called after every cell.
    """
    from benchmarks.study import features, spreading  # load jax, as in from_scratch

    size = SIZES[place.size]
    for seed in size.seeds:
        images.list_labeled(place.images / "train", place.label_list(seed), labels=size.labels, seed=seed)
    seeing = features.keep(place)
    heads, fixed = tried_heads(size), tried_fixed(size)
    planned = [*heads, *fixed, *reported_cells(size, Cell("head", 0), Cell("head_fixed", 0))]
    train = functools.partial(running.train, place=place, planned=planned, by=features.train)
    for cell in heads:
        train(cell)
    head = choose(HEAD_RATE, heads, place)
    train(Cell("head", TUNING_SEED, rate=head.rate))  # what is tried starts from it
    for cell in fixed:
        train(cell)
    for cell in reported_cells(size, head, choose(FIXED, fixed, place)):
        train(cell)
        written(place)
    neighbours = spreading.choose(place, heads[0], seeing)
    for seed in size.seeds:
        spreading.grade(place, Cell("head", seed), neighbours, seeing)


def tried_heads(size: Size) -> list[Cell]:
    """Heads among which the rate of the supervised row is chosen."""
    return [Cell("head", TUNING_SEED, tuning=True, rate=rate) for rate in size.finetune.peak_lrs]


def tried_fixed(size: Size) -> list[Cell]:
    """Rows of the fixed threshold among which threshold and rate of all rules are chosen."""
    pairs = itertools.product(size.thresholds, size.semi.peak_lrs)
    return [Cell("head_fixed", TUNING_SEED, threshold, tuning=True, rate=rate) for threshold, rate in pairs]


def reported_cells(size: Size, head: Cell, fixed: Cell) -> list[Cell]:
    """One row after the other, so that what has finished is paired, and seeds find each other's programs compiled.

    They have the rate of the chosen head, and threshold and rate of the chosen fixed row.
    """
    return [
        Cell(row, seed, rate=head.rate) if row == "head" else Cell(row, seed, fixed.threshold, rate=fixed.rate)
        for row in ON_FEATURES
        for seed in size.seeds
    ]
