"""The accelerator benchmark: one command, one device, no network.

    python -m benchmarks.gpu --out DIR --minutes 9

Writes DIR/results.jsonl, one line per row as it is measured, DIR/table.txt after every row, and DIR/log.txt, what the
cases print. The machine's own ceilings come first, then the most telling cases, each in a process of its own. What
fails is listed with its reason, and so is what does not fit into the minutes; `--resume` goes on from there. On a
CPU the same command runs tiny cases.
"""

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import jobs, twins, xla_flags
from benchmarks.jobs import Job
from benchmarks.table import render

Row = dict[str, Any]

ALONE = "0.9"  # share of the device memory that a case takes; GPU libraries need some beside it
BESIDE_A_TWIN = "0.45"
LAST_WORDS = 400  # characters of an error's last line that a row keeps; log.txt has all


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description="Measure training steps on one accelerator.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl, table.txt and log.txt")
    parser.add_argument("--minutes", type=float, default=9.0, help="the command ends within this time")
    parser.add_argument("--case-minutes", type=float, default=5.0, help="a case that takes longer is given up")
    parser.add_argument(
        "--only", type=re.compile, default=".*", help="run jobs whose whole name this expression matches"
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows in DIR and measure what is missing")
    parser.add_argument("--xla-preset", choices=tuple(xla_flags.PRESETS), help="flags of benchmarks/xla_flags.py")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    deadline = time.monotonic()
    args = parse(arguments)
    deadline += 60 * args.minutes
    if args.xla_preset:
        xla_flags.apply(args.xla_preset, os.environ)
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out, resume=args.resume)

    def run(job: Job) -> Row:
        seconds = min(deadline - time.monotonic(), 60 * args.case_minutes)
        return run_apart(job, report.rows, seconds=seconds, log=args.out / "log.txt")

    machine = run(Job("machine", "", ""))
    report.begin({**machine, "xla_flags": os.environ.get("XLA_FLAGS", "")})
    if "not_run" in machine:
        sys.exit(f"the machine itself could not be measured: {machine['not_run']}; see {args.out / 'log.txt'}")
    for job in jobs.all_jobs(accelerator=machine["backend"] != "cpu")[1:]:
        if args.only.fullmatch(job.name) and not report.has(job):
            report.add(job.name, run(job))
    print((args.out / "table.txt").read_text(), end="")


class Report:
    """The rows, kept on disk from the first one on: a run that is killed loses the case at hand only."""

    def __init__(self, folder: Path, *, resume: bool):
        self.lines, self.table = folder / "results.jsonl", folder / "table.txt"
        self.rows: list[Row] = []
        if not resume:
            (folder / "log.txt").unlink(missing_ok=True)
        if resume and self.lines.exists():
            # The last line may have been cut off by whatever ended that run.
            whole = [line for line in self.lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
            # What was not run is tried again.
            self.rows = [row for row in map(json.loads, whole) if "not_run" not in row]
        self.run = 1 + max((row["run"] for row in self.rows), default=0)

    def has(self, job: Job) -> bool:
        return any(row["name"] == job.name for row in self.rows)

    def begin(self, machine: Row) -> None:
        """Every run measures the machine; rows point at theirs by its number."""
        self.lines.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self.add("machine", machine)

    def add(self, name: str, row: Row) -> None:
        self.rows.append({"name": name, "run": self.run, **row})
        with self.lines.open("a") as lines:
            print(json.dumps(self.rows[-1]), file=lines, flush=True)
        self.table.write_text(render(self.rows) + "\n")


def run_apart(job: Job, rows: Sequence[Row], *, seconds: float, log: Path) -> Row:
    """The job's row from a process of its own, or a row that says why there is none."""
    if job.kind == "twin" and (absent := twins.missing()):
        return _none(job, f"{' and '.join(absent)} not installed")
    if seconds <= 0:
        return _none(job, "out of time")
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        command = [
            sys.executable, "-m", "benchmarks.one_job", "--job", json.dumps(dataclasses.asdict(job)),
            "--found", json.dumps(dataclasses.asdict(jobs.found_in(rows))), "--record", str(record),
        ]  # fmt: skip
        with log.open("a") as stream:
            print(f"--- {job.name}", file=stream, flush=True)
            begins = stream.tell()
            # A session of its own, so that the compilers it starts end with it.
            chosen = environment(job, log.parent / "cache")
            process = subprocess.Popen(command, env=chosen, stdout=stream, stderr=stream, start_new_session=True)
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return _none(job, f"given up after {seconds:.0f} s")
            finally:
                _end(process)
        if code != 0:
            return _none(job, _reason(code, log.read_bytes()[begins:].decode(errors="replace")))
        return json.loads(record.read_text())


def environment(job: Job, cache: Path) -> dict[str, str]:
    """The process's environment; shares of memory that the user set stay.

    Jobs of several programs keep what they compile, so that one that was cut short goes on quickly. Cases do not: their
    compile time is a result.
    """
    chosen = dict(os.environ)
    if job.kind in ("kernels", "parts", "twin"):
        chosen["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    if not {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"} & set(chosen):
        chosen["XLA_CLIENT_MEM_FRACTION"] = BESIDE_A_TWIN if job.kind == "twin" else ALONE
    return chosen


def _end(process: subprocess.Popen) -> None:
    """Ends the process and everything that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of them have ended already
    process.wait()


def _reason(code: int, said: str) -> str:
    """The error itself: the last line that is no continuation of another."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith((" ", "-", "For simplicity"))]
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1][:LAST_WORDS]}" if lines else how


def _none(job: Job, reason: str) -> Row:
    return {"kind": job.kind, "not_run": reason}


if __name__ == "__main__":
    main()
