"""What ideas of docs/performance.md change in the step compiled for a TPU slice: temporaries and bytes.

    python -m benchmarks.plan_ideas --write=docs/performance.md

Needs no TPU, but `pip install -c requirements/constraints.txt '.[plan]'`. One compilation per row; rows are lines of
benchmarks/results/plan_ideas.jsonl, and those that are there are not compiled again.
"""

import argparse
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import jax

from benchmarks import ideas
from benchmarks.plan_table import WORKED_OUT, Case, load_config, replace_between
from semivit_jax.preflight.batch import image_counts, with_legal_batch
from semivit_jax.preflight.chips import GIB
from semivit_jax.preflight.stages import use_no_accelerator
from semivit_jax.preflight.step import OutOfMemory, compile_step
from semivit_jax.preflight.topology import describe_devices, libtpu_version, parse
from semivit_jax.recipes.planning import make_plan

RESULTS = Path(__file__).parent / "results" / "plan_ideas.jsonl"
BEGIN, END = "<!-- ideas on TPU: begin -->", "<!-- ideas on TPU: end -->"
CASES = (Case("vit_b16", "semi", "v5e:4x4"), Case("vit_b16", "mae", "v4:4x4x4"))


@dataclasses.dataclass(frozen=True)
class Change:
    """An idea of `benchmarks.ideas`, or another value of a model setting; neither is the step as it is."""

    idea: str = ""
    setting: str = ""
    value: Any = None
    stages: tuple[str, ...] = ("semi", "mae")

    @property
    def name(self) -> str:
        return self.idea or (f"{self.setting}={self.value}" if self.setting else "as it is")


CHANGES = (
    Change(),
    Change("keep_attention"),
    Change("keep_norm_and_gelu"),
    Change("keep_everything"),
    Change("float32_attention_gradient"),
    Change("scattering_unshuffle", stages=("mae",)),
    Change("three_products"),
    Change(setting="remat", value="dots"),
    Change(setting="remat", value="full"),
    Change(setting="unroll", value=4),
)


def compile_row(case: Case, change: Change) -> dict[str, Any]:
    """Compiles one step; bytes are one chip's, and loops count once in `bytes_accessed`."""
    topology = parse(case.topology, slices=1)
    config = load_config(case)
    counts = image_counts(config, WORKED_OUT)
    config, _ = with_legal_batch(config, case.stage, topology.num_devices)
    if change.setting:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **{change.setting: change.value}))
    plan = make_plan(config, case.stage, counts, num_devices=topology.num_devices, stored_group_size=None)
    row = dataclasses.asdict(case) | {"change": change.name}
    try:
        with ideas.applied(change.idea):
            found = compile_step(config, plan, describe_devices(topology))
    except OutOfMemory as error:
        row |= {"fits": False, "peak_bytes": error.needed_bytes, "compile_seconds": error.seconds}
    else:
        row |= {
            "fits": True,
            "temporary_bytes": found.temporary_bytes,
            "peak_bytes": found.peak_bytes,
            "bytes_accessed": found.bytes_accessed,
            "compile_seconds": found.seconds,
        }
    versions = {"jax": jax.__version__, "libtpu": libtpu_version()}
    return row | {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "versions": versions}


def read_rows(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows so far; the last one of a step and change counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {(r["model"], r["stage"], r["topology"], r["change"]): r for r in map(json.loads, lines)}


def compile_missing(path: Path) -> None:
    done = read_rows(path)
    for case in CASES:
        for change in CHANGES:
            if case.stage in change.stages and (*dataclasses.astuple(case), change.name) not in done:
                row = compile_row(case, change)
                with open(path, "a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def markdown(rows: dict[tuple[str, ...], dict[str, Any]]) -> str:
    """Steps side by side would hide what is not asked of one of them, so each has its rows."""
    lines = [
        "| step | change | temporaries, GiB | bytes accessed, loops counted once, GiB | compile, s |",
        "|---|---|---|---|---|",
    ]
    for row in rows.values():
        step = f"{row['model']}, {row['stage']}, {row['topology']}"
        cells = (
            (f"{row['temporary_bytes'] / GIB:.2f}", f"{row['bytes_accessed'] / GIB:.2f}")
            if row["fits"]
            else (f"does not fit: {row['peak_bytes'] / GIB:.2f} in all", "")
        )
        lines.append(f"| {' | '.join((step, row['change'], *cells, format(row['compile_seconds'], '.0f')))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines, one per row")
    parser.add_argument("--write", type=Path, default=None, help="Markdown file with the table's markers")
    arguments = parser.parse_args()
    use_no_accelerator()
    compile_missing(arguments.results)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, markdown(read_rows(arguments.results)))


if __name__ == "__main__":
    main()
