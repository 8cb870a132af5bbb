"""The table of docs/scaling.md: what every model and stage needs on TPU slices, compiled without a TPU.

python -m benchmarks.plan_table --minutes=30          compiles rows that are missing, the most telling first
python -m benchmarks.plan_table --write=docs/scaling.md   puts the table between that file's markers

A row takes minutes, so each is kept as a line of benchmarks/results/plan.jsonl as soon as it is there, and the
next call goes on from it. Rows that were not compiled stand in the table with the analytic part alone. Compiling needs
`pip install -c requirements/constraints.txt '.[plan]'`.
"""

import argparse
import dataclasses
import datetime
import importlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from semivit_jax.config import Config
from semivit_jax.preflight.answer import Answer, plan_one, to_dict
from semivit_jax.preflight.batch import GivenCounts, image_counts
from semivit_jax.preflight.chips import GIB
from semivit_jax.preflight.stages import use_no_accelerator
from semivit_jax.preflight.topology import describe_devices, parse
from semivit_jax.recipes import check

RESULTS = Path(__file__).parent / "results" / "plan.jsonl"
BEGIN, END = "<!-- plan table: begin -->", "<!-- plan table: end -->"
WORKED_OUT = GivenCounts(images=0, labeled=0, classes=0)
MAX_TRIES = 3


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    stage: str
    topology: str


MODELS = ("vit_b16", "vit_l16", "vit_h14")
STAGES = ("semi", "mae", "finetune")
SLICES = ("v5e:4x4", "v5e:16x16", "v4:4x4x4")
# What says most, in case the time does not last for all: three sizes, and one size on 16, 256 and 1,024 chips.
FIRST = (
    Case("vit_b16", "semi", "v5e:4x4"),
    Case("vit_l16", "semi", "v5e:4x4"),
    Case("vit_h14", "semi", "v5e:16x16"),
    Case("vit_b16", "semi", "v5e:16x16"),
    Case("vit_b16", "semi", "v4:8x8x16"),
    Case("vit_b16", "mae", "v5e:4x4"),
    Case("vit_b16", "finetune", "v5e:4x4"),
    Case("vit_l16", "semi", "v5e:16x16"),
)
ALL = tuple(dict.fromkeys((*FIRST, *(Case(m, s, t) for s in STAGES for m in MODELS for t in SLICES))))


def load_config(case: Case) -> Config:
    """The published recipe of a case, at 1 % of the labels."""
    recipe, text = ("imagenet_mae", "") if case.stage == "mae" else ("imagenet_semi", ",labels=1pct")
    module = importlib.import_module(f"semivit_jax.configs.{recipe}")
    return check.check(module.get_config(f"model={case.model}{text}"))


def plan(case: Case, *, compiling: bool, note: str) -> Answer:
    """One row; where the recipe as it stands does not fit, with the nearest change that does."""
    config, topology = load_config(case), parse(case.topology, slices=1)
    counts = image_counts(config, WORKED_OUT)
    guess = plan_one(config, case.stage, topology, counts, devices=None, note=note, tries=MAX_TRIES)
    if guess.change is not None and guess.change.setting is not None:
        config = guess.change.setting.applied_to(config)
    if not compiling:
        return plan_one(config, case.stage, topology, counts, devices=None, note=note, tries=0)
    devices = describe_devices(topology)
    found = plan_one(config, case.stage, topology, counts, devices=devices, note="", tries=MAX_TRIES)
    if found.change is None or found.change.setting is None:
        return found
    config = found.change.setting.applied_to(config)  # the estimate was too low: the row shows what was found to fit
    return plan_one(config, case.stage, topology, counts, devices=devices, note="", tries=0)


def read_rows(path: Path) -> dict[Case, dict[str, Any]]:
    """Rows so far; the last one of a case counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {Case(r["model"], r["stage"], r["topology"]): r for r in map(json.loads, lines)}


def compile_missing(path: Path, *, minutes: float) -> None:
    """Appends rows until none is missing or the time is up; a row once started is finished."""
    started = time.monotonic()
    done = read_rows(path)
    path.parent.mkdir(exist_ok=True)
    for case in ALL:
        if case in done:
            continue
        if time.monotonic() - started > 60 * minutes:
            return
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        row = to_dict(plan(case, compiling=True, note="")) | {"date": today}
        with open(path, "a") as file:
            file.write(json.dumps(row) + "\n")
        print(markdown_row(row), flush=True)


HEAD = (
    "| model | stage | slice | chips | fsdp | remat | batch per step | images per chip | state | activations | total | "
    "of | sent per chip | FLOPs per step | step (est.) | images/s (est.) | hours (est.) | compiled |"
)


def markdown_row(row: dict[str, Any]) -> str:
    """One line of the table; a tilde marks estimated bytes."""
    memory, estimate = row["memory"], row["estimate"]
    tilde = "~" if memory["source"] == "estimate" else ""
    state = memory["params"] + memory["ema_params"] + memory["optimizer"]
    batch = row["batch_size"] * (1 + row["unlabeled_ratio"])
    verdict = "" if row["fits"] else " **too much**"
    steps = [1e3 * estimate[k] for k in ("step_seconds", "step_seconds_serial")]
    compiled = f"{row['compile_seconds']:.0f} s, {row['date']}" if row["compiled"] else "not run"
    cells = (
        row["model"], row["stage"], row["topology"], row["devices"], row["fsdp"], row["remat"], batch,
        row["images_per_device"] if row["micro_steps"] == 1 else f"{row['micro_steps']} x {row['images_per_device']}",
        f"{state / GIB:.2f}", f"{tilde}{memory['activations'] / GIB:.2f}",
        f"{tilde}{memory['total'] / GIB:.2f}{verdict}", f"{memory['chip'] / GIB:.0f}",
        f"{'~' if row['sent_bytes_source'] == 'estimate' else ''}{row['sent_bytes'] / 2**20:,.0f}",
        f"{row['model_flops']:.2e}",
        f"{steps[0]:.0f} to {steps[1]:.0f} ms", f"{estimate['images_per_second']:,.0f}", f"{estimate['hours']:.2g}",
        compiled,
    )  # fmt: skip
    return f"| {' | '.join(str(c) for c in cells)} |"


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The whole table."""
    rule = "|" + "---|" * (HEAD.count("|") - 1)
    return "\n".join([HEAD, rule, *(markdown_row(row) for row in rows)])


def write_table(path: Path, results: Path) -> None:
    """Replaces what stands between the markers of a Markdown file."""
    done = read_rows(results)
    rows = [done.get(case) or to_dict(plan(case, compiling=False, note="not run")) for case in sorted(ALL, key=_order)]
    replace_between(path, BEGIN, END, markdown(rows))


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replaces what stands between two markers, a line each."""
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _order(case: Case) -> tuple[int, int, str]:
    return STAGES.index(case.stage), MODELS.index(case.model), case.topology


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=0.0, help="start no row after this time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines, one per row")
    parser.add_argument("--write", type=Path, default=None, help="Markdown file with the table's markers")
    arguments = parser.parse_args()
    use_no_accelerator()
    if arguments.minutes:
        compile_missing(arguments.results, minutes=arguments.minutes)
    if arguments.write:
        write_table(arguments.write, arguments.results)


if __name__ == "__main__":
    main()
