"""Time of the demo's training by stage, and what it reaches, of one or more checkouts in turn.

    python -m benchmarks.demo ../before . --times=3 --seed=0

Each run is a process in its checkout: `semivit train --config=configs/digits.py:seed=S`, with this interpreter and the
environment variables of the checkout's `make demo`. The checkouts take turns, so that other load on the machine falls
on all alike. Compiled programs are kept per checkout for its later runs, so the first one compiles; `--compile` has
every run compile. A JSON line per run is appended to `--out`; the table holds medians.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "demo.jsonl"


@dataclasses.dataclass(frozen=True)
class Trained:
    """One run. Times in seconds, accuracies on the test images as shares.

    Attributes:
      commit: of the checkout; with "+" where files differ from it.
      compiled_before: whether an earlier run of this call has left its compiled programs.
      wall: of the whole process, start and baselines included.
      cpu: user and system time of the process.
      seconds: by stage, from summary.json.
      accuracy: by stage and kind of weights, from summary.json.
      load: mean number of runnable threads over the minute before.
    """

    checkout: str
    commit: str
    seed: int
    date: str
    cores: int
    load: float
    compiled_before: bool
    wall: float
    cpu: float
    seconds: dict[str, float]
    accuracy: dict[str, float]


def train(checkout: Path, *, seed: int, compiled: Path) -> Trained:
    """Trains the demo of a checkout once.

    Args:
      checkout: folder of the source.
      seed: of the recipe.
      compiled: folder that keeps compiled programs.

    Raises:
      SystemExit: the run failed; the end of what it printed.
    """
    known, load = any(compiled.iterdir()), os.getloadavg()[0]
    environ = os.environ | as_made(checkout) | {"PYTHONPATH": str(checkout), "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "semivit_jax.main", "train", f"--config=configs/digits.py:seed={seed}"]
        before, started = _children_seconds(), time.monotonic()
        done = subprocess.run(
            [*command, f"--workdir={folder}/run"],
            cwd=checkout,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        wall, cpu = time.monotonic() - started, _children_seconds() - before
        if done.returncode:
            raise SystemExit(f"benchmarks.demo: {checkout}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return Trained(
        checkout=checkout.name,
        commit=_commit(checkout),
        seed=seed,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        load=round(load, 1),
        compiled_before=known,
        wall=wall,
        cpu=cpu,
        seconds=summary["seconds"],
        accuracy=accuracies(summary),
    )


def as_made(checkout: Path) -> dict[str, str]:
    """Environment variables that the checkout's `make demo` sets before its command."""
    command = subprocess.run(
        ["make", "--dry-run", "--silent", "demo"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    words = itertools.takewhile(lambda word: "=" in word, shlex.split(command))
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _commit(checkout: Path) -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True
        ).stdout.strip()

    return git("rev-parse", "--short=8", "HEAD") + ("+" if git("status", "--porcelain") else "")


def accuracies(summary: dict[str, Any]) -> dict[str, float]:
    """What a run's table shows, by the names of the columns here."""
    stages = summary["stages"]
    return {
        "finetune": stages["finetune"]["acc1"],
        "student": stages["semi"]["acc1"],
        "teacher": stages["semi"]["ema_acc1"],
    }


def table(rows: Sequence[Trained]) -> str:
    """Medians of each checkout, a Markdown line each, in the order in which they ran first."""
    stages = list(rows[0].seconds)
    names = ("finetune", "student", "teacher")
    head = [
        "checkout",
        "commit",
        "runs",
        *(f"{s}, s" for s in stages),
        "process, s",
        "CPU, s",
        *(f"{n}, %" for n in names),
    ]
    lines = [head, ["---"] * len(head)]
    for checkout in dict.fromkeys(row.checkout for row in rows):
        of = [row for row in rows if row.checkout == checkout]
        times = [statistics.median(row.seconds[s] for row in of) for s in stages]
        times += [statistics.median(row.wall for row in of), statistics.median(row.cpu for row in of)]
        reached = [100 * statistics.median(row.accuracy[n] for row in of) for n in names]
        numbers = [*(f"{t:.0f}" for t in times), *(f"{a:.1f}" for a in reached)]
        lines.append([checkout, of[-1].commit, str(len(of)), *numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.demo", description="Time the demo's training.")
    parser.add_argument(
        "checkouts", nargs="*", type=Path, default=[Path()], help="folders of the source; default: here"
    )
    parser.add_argument("--times", type=int, default=3, help="runs of each checkout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="have every run compile")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON lines, one per run")
    args = parser.parse_args(arguments)
    checkouts, rows = [checkout.resolve() for checkout in args.checkouts], []
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(args.times):
            for number, checkout in enumerate(checkouts):
                compiled = Path(kept, f"{number}-{turn if args.compile else 0}")
                compiled.mkdir(exist_ok=True)
                rows.append(train(checkout, seed=args.seed, compiled=compiled))
                with open(args.out, "a") as file:
                    file.write(json.dumps(dataclasses.asdict(rows[-1])) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
