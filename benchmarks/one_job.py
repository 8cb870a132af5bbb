"""One row of the accelerator benchmark, in a process of its own: `benchmarks.gpu` starts it.

    python -m benchmarks.one_job --job JSON --found JSON --record FILE

A process of its own gives every case the whole memory, its own peak, and an end that ends nothing else: device memory
that jax once took goes back to nobody before the process ends, and some errors of GPU libraries end the process.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks import jobs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.one_job", description="Measure one row of the benchmark.")
    parser.add_argument("--job", type=json.loads, required=True, help="fields of benchmarks.jobs.Job")
    parser.add_argument("--found", type=json.loads, required=True, help="fields of benchmarks.jobs.Found")
    parser.add_argument("--record", type=Path, required=True, help="file for the row")
    args = parser.parse_args(arguments)
    args.record.write_text(json.dumps(jobs.run(jobs.Job(**args.job), jobs.Found(**args.found))))


if __name__ == "__main__":
    main()
