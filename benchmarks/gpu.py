"""The accelerator benchmark: one command, one device, no network.

    python -m benchmarks.gpu --out DIR --minutes 9

Writes DIR/results.jsonl, one line per row as it is measured, and DIR/table.txt. The machine's own ceilings come
first, then the most telling cases; what does not fit into the minutes is listed as not run. On a CPU the same
command runs tiny cases.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks import jobs
from benchmarks.step import machine
from benchmarks.table import render
from semivit_jax import xla_flags


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description="Measure training steps on one accelerator.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl and table.txt")
    parser.add_argument("--minutes", type=float, default=9.0, help="no case starts that may not end in this time")
    parser.add_argument("--xla-preset", choices=tuple(xla_flags.PRESETS), help="flags of semivit_jax/xla_flags.py")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    args = parse(arguments)
    # Read when the first device is opened, below: PyTorch needs memory beside us.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if args.xla_preset:
        xla_flags.apply(args.xla_preset, os.environ)
    args.out.mkdir(parents=True, exist_ok=True)
    accelerator = jax.default_backend() != "cpu"
    rows = [{"name": "machine", "kind": "machine", **machine(), "xla_flags": os.environ.get("XLA_FLAGS", "")}]
    rows.append({"name": "ceilings", **jobs.record("ceilings", jobs.ceilings(accelerator=accelerator))})
    slowest = 0.0
    with (args.out / "results.jsonl").open("w") as lines:
        for row in rows:
            print(json.dumps(row), file=lines, flush=True)
        for job in jobs.accelerator_jobs() if accelerator else jobs.cpu_jobs():
            job_started = time.monotonic()
            left = args.minutes * 60 - (job_started - started)
            # The slowest case so far says how long the next may take.
            row = run(job) if left > slowest else {"kind": "not_run", "not_run": "out of time"}
            slowest = max(slowest, time.monotonic() - job_started)
            rows.append({"name": job.name, **row})
            print(json.dumps(rows[-1]), file=lines, flush=True)
    table = render(rows)
    (args.out / "table.txt").write_text(table + "\n")
    print(table)


def run(job: jobs.Job) -> dict:
    """The job's record, or why this machine could not run it; other errors end the benchmark."""
    try:
        return job.run()
    except jobs.NothingFits as error:
        return {"kind": "not_run", "not_run": str(error)}


if __name__ == "__main__":
    main()
