"""What the TPU compiler says of ConvNeXt's step: temporaries, with which `semivit plan`'s estimate is compared.

    python -m benchmarks.plan_convnext

Needs no TPU, but `pip install -c requirements/constraints.txt '.[plan]'`. One compilation per row; rows are lines of
benchmarks/results/plan_convnext.jsonl, and those that are there are not compiled again. The recipes are the published
ones from scratch, at 10 % of the labels.
"""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import jax

from benchmarks.plan_table import WORKED_OUT, Case
from semivit_jax.config import Config
from semivit_jax.configs import imagenet_semi
from semivit_jax.plan import Plan
from semivit_jax.preflight.batch import image_counts, with_legal_batch
from semivit_jax.preflight.stages import use_no_accelerator
from semivit_jax.preflight.step import compile_step
from semivit_jax.preflight.topology import describe_devices, libtpu_version, parse
from semivit_jax.recipes import check
from semivit_jax.recipes.planning import make_plan

RESULTS = Path(__file__).parent / "results" / "plan_convnext.jsonl"
ROWS = (
    (Case("convnext_tiny", "finetune", "v5e:4x4"), "none"),
    (Case("convnext_tiny", "semi", "v5e:4x4"), "none"),
    (Case("convnext_tiny", "finetune", "v5e:4x4"), "full"),
    (Case("convnext_small", "semi", "v5e:4x4"), "none"),
)


def planned(case: Case, remat: str) -> tuple[Config, Plan]:
    """The step that a row is about; `remat` is config.model.remat."""
    raw = imagenet_semi.get_config(f"model={case.model},labels=10pct,init=scratch")
    raw.update_from_flattened_dict({"model.remat": remat})
    config, devices = check.check(raw.to_dict()), parse(case.topology, slices=1).num_devices
    config, _ = with_legal_batch(config, case.stage, devices)
    counts = image_counts(config, WORKED_OUT)
    return config, make_plan(config, case.stage, counts, num_devices=devices, stored_group_size=None)


def compile_row(case: Case, remat: str) -> dict[str, Any]:
    """Compiles one step; bytes are one chip's."""
    config, plan = planned(case, remat)
    found = compile_step(config, plan, describe_devices(parse(case.topology, slices=1)))
    return dataclasses.asdict(case) | {
        "remat": remat,
        "temporary_bytes": found.temporary_bytes,
        "peak_bytes": found.peak_bytes,
        "compile_seconds": found.seconds,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"jax": jax.__version__, "libtpu": libtpu_version()},
    }


def read_rows(path: Path) -> dict[tuple[Case, str], dict[str, Any]]:
    """Rows so far; the last one of a step counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {(Case(r["model"], r["stage"], r["topology"]), r["remat"]): r for r in map(json.loads, lines)}


def main() -> None:
    use_no_accelerator()
    done = read_rows(RESULTS)
    for case, remat in ROWS:
        if (case, remat) not in done:
            row = compile_row(case, remat)
            with open(RESULTS, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
