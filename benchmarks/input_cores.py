"""How many cores feed a training step, from the measured rates of the views and of the pipeline."""

import math
import os
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def table(needs: Sequence[float], *, pairs_per_s_core: float, pipeline: Sequence[Row]) -> list[Row]:
    """For every need (unlabeled images per second, each with both views) the cores that can feed it.

    Cores = need / (pairs per second and core * efficiency), rounded up. The efficiency is that of the pipeline with
    as many threads as this machine has cores; one above 1 is a disturbed measurement and counts as 1.
    """
    efficiency = min(1.0, pipeline_efficiency(pipeline))
    return [
        {
            "images_per_s": need,
            "cores": math.ceil(need / (pairs_per_s_core * efficiency)),
            "pairs_per_s_core": pairs_per_s_core,
            "efficiency": efficiency,
        }
        for need in needs
    ]


def pipeline_efficiency(pipeline: Sequence[Row]) -> float:
    """`efficiency` of the row whose threads come nearest to the cores from below, without worker processes."""
    cores = os.cpu_count() or 1
    rows = [row for row in pipeline if row["workers"] == 0 and row["threads"] <= cores]
    if not rows:
        raise ValueError(f"the pipeline was not measured with at most {cores} threads and no workers")
    return max(rows, key=lambda row: row["threads"])["efficiency"]


def print_table(rows: Sequence[Row]) -> None:
    """Prints what `table` returned."""
    print(f"cores for a step that takes N unlabeled images per second, at {rows[0]['pairs_per_s_core']:.0f} pairs")
    print(f"per second and core and an efficiency of {rows[0]['efficiency']:.0%} (other core counts: not measured):")
    for row in rows:
        print(f"  {row['images_per_s']:>8g} images/s  {row['cores']:>4} cores")
