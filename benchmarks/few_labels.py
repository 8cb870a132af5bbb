"""What pays with few labels: probes, a head, LoRA and the last blocks, each with and without the semi-supervised stage.

    python -m benchmarks.few_labels --data=FOLDER --weights=IMPORT [--labels=10,4,40] [--seeds=0] [--ways=last_2]
    DATA=FOLDER WEIGHTS=IMPORT make few-labels

FOLDER has class folders under FOLDER/train and FOLDER/test; IMPORT is what `semivit import` wrote. Of each seed and
number of labels a subset is drawn: so many labeled images per class, 50 more of each without their label, and 20 test
images of each. Every run is a process with `own_folder`'s recipe but for what `SHORT` changes, and gives six numbers:
k-NN and logistic regression on the starting weights, the end of fine-tuning, and the teacher of the semi-supervised
stage, with seconds and the most memory. A JSON line per run is appended to --out; runs that are there are not repeated,
and one that was stopped goes on.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "few_labels.jsonl"
UNLABELED, TEST = 50, 20  # images per class
SHORT = {  # of own_folder, which makes 200 and 300 updates: what two cores do in an hour; layer decay as it was
    "finetune.min_updates": 60, "finetune.epochs": 1.0, "finetune.warmup_epochs": 0.1, "finetune.batch_size": 16,
    "semi.min_updates": 40, "semi.epochs": 1.0, "semi.warmup_epochs": 0.1, "semi.batch_size": 8,
    "semi.unlabeled_ratio": 3, "train.eval_every_epochs": 1000.0, "train.eval_batch_size": 100,
    "train.max_images_per_device": 0, "log.tensorboard": False, "log.every_steps": 20, "finetune.layer_decay": 0.75,
}  # fmt: skip
WAYS: Mapping[str, Mapping[str, Any]] = {
    "head": {  # features are kept, so that updates cost nothing
        "model.tune": "head", "data.cache_features": 2, "finetune.min_updates": 200, "semi.min_updates": 300,
        "semi.unlabeled_ratio": 5, "semi.batch_size": 16,
    },
    "last_2": {"model.tune": "last_2"},
    "lora": {"model.tune": "lora"},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run that has ended. Accuracies are shares of the test images.

    Attributes:
      way: a row of WAYS.
      labels: per class.
      knn, linear: on the starting weights.
      finetuned: at the end of fine-tuning.
      semi: of the teacher at the end of the semi-supervised stage.
      seconds: by stage.
      peak_gib: most memory of the process.
      load: mean number of runnable threads over the minute before.
    """

    way: str
    labels: int
    seed: int
    knn: float
    linear: float
    finetuned: float
    semi: float
    seconds: Mapping[str, float]
    peak_gib: float
    cores: int
    load: float
    date: str


def subset(data: Path, out: Path, *, labels: int, seed: int) -> Path:
    """Links some images of a data set into the layout of `own_folder`; images that lie deeper have no label.

    Unlabeled and test images are the same for every number of labels.
    """
    if out.exists():
        return out
    for split, role in itertools.product(("train", "test"), sorted(p.name for p in (data / "train").iterdir())):
        files = sorted((data / split / role).iterdir())
        random.Random(f"{seed} {role}").shuffle(files)
        if split == "test":
            chosen = {out / "test" / role: files[:TEST]}
        else:
            rest = files[UNLABELED : UNLABELED + labels]
            chosen = {out / "train" / "rest" / "unlabeled": files[:UNLABELED], out / "train" / role: rest}
        for folder, images in chosen.items():
            folder.mkdir(parents=True, exist_ok=True)
            for image in images:
                shutil.copy(image, folder / f"{role}_{image.name}")
    return out


def run(data: Path, weights: Path, work: Path, *, way: str, labels: int, seed: int) -> Cell:
    """Trains one cell to its end.

    Raises:
      SystemExit: the run failed.
    """
    photos = subset(data, work / f"photos_{labels}_{seed}", labels=labels, seed=seed)
    given = {
        "data.root": photos, "data.train_split": "train", "data.eval_split": "test", "data.validation_share": 0.0,
        "seed": seed, **SHORT, **WAYS[way],
    }  # fmt: skip
    load = os.getloadavg()[0]
    summary, peak_gib = train(work / f"{way}_{labels}_{seed}", weights, given)
    stages, probes = summary["stages"], summary["baselines"]
    return Cell(
        way=way,
        labels=labels,
        seed=seed,
        knn=probes["knn_probe"]["acc1"],
        linear=probes["linear_probe"]["acc1"],
        finetuned=stages["finetune"]["acc1"],
        semi=stages["semi"]["ema_acc1"],
        seconds=summary["seconds"],
        peak_gib=peak_gib,
        cores=len(os.sched_getaffinity(0)),
        load=load,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def train(workdir: Path, weights: Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Trains with `own_folder` in a process, with its log beside the workdir; one that was stopped goes on.

    Args:
      workdir: of the run.
      weights: an import, or another run.
      given: keys of the config that differ from the recipe.

    Returns:
      (the run's summary, the process's peak memory in GiB).

    Raises:
      SystemExit: the run failed; where what it printed is.
    """
    command = [sys.executable, "-m", "semivit_jax.main", "train", f"--config=own_folder:init_from={weights}"]
    flags = [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in given.items())]
    with workdir.with_name(f"{workdir.name}.log").open("a") as log:
        process = subprocess.Popen([*command, *flags], stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run of {workdir} ended with {os.waitstatus_to_exitcode(status)}; see {log.name}")
    return json.loads((workdir / "summary.json").read_text()), usage.ru_maxrss / 2**20


def table(cells: Sequence[Cell], numbers: Sequence[int]) -> str:
    """Markdown: a row per way and number of labels, means over the seeds; what has not run says so.

    Over the probe: the end of the run minus logistic regression on the same images.
    """
    head = (
        "labels per class",
        "trained",
        "alone",
        "with unlabeled images",
        "over the probe",
        "seconds",
        "memory",
        "seeds",
    )
    rows: list[Sequence[object]] = []
    for labels in numbers:
        here = [cell for cell in cells if cell.labels == labels]
        for method, name in (("knn", "k-NN"), ("linear", "logistic regression")):
            found = {cell.seed: getattr(cell, method) for cell in here}
            rows.append((labels, name, _percent(list(found.values())), "-", "-", "-", "-", len(found)))
        for way in WAYS:
            found = [cell for cell in here if cell.way == way]
            alone, semi = (_percent([getattr(cell, key) for cell in found]) for key in ("finetuned", "semi"))
            gained = _points([cell.semi - cell.linear for cell in found])
            seconds = " + ".join(f"{_mean([c.seconds[s] for c in found]):.0f}" for s in ("finetune", "semi") if found)
            peak = f"{max(cell.peak_gib for cell in found):.1f} GiB" if found else "-"
            rows.append((labels, f"`{way}`", alone, semi, gained, seconds or "-", peak, len(found)))
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _points(shares: Sequence[float]) -> str:
    """Mean of differences in points, and between which they lie."""
    if not shares:
        return "-"
    return f"{100 * _mean(shares):+.1f} ({100 * min(shares):+.1f} to {100 * max(shares):+.1f})"


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * _mean(shares):.1f} %" if shares else "not run"


def read(path: Path) -> list[Cell]:
    """The cells that have been run."""
    return [Cell(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing, and prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.few_labels", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DATA"), help="folder with train/ and test/")
    parser.add_argument("--weights", type=Path, default=os.environ.get("WEIGHTS"), help="folder of `semivit import`")
    parser.add_argument("--labels", default="10,4,40", help="per class, in this order")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"), help="folder of subsets and runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    for name, inside in (("data", "train"), ("weights", "import.json")):
        folder = getattr(asked, name)
        if folder is None or not (folder / inside).exists():
            print(f"benchmarks.few_labels: --{name}={folder}: no folder with {inside}", file=sys.stderr)
            return 2
    numbers, seeds = ([int(n) for n in text.split(",")] for text in (asked.labels, asked.seeds))
    asked.work.mkdir(parents=True, exist_ok=True)
    ways = asked.ways.split(",")
    for seed, labels, way in ((s, n, w) for s in seeds for n in numbers for w in ways):
        if any((cell.way, cell.labels, cell.seed) == (way, labels, seed) for cell in read(asked.out)):
            continue
        started = time.monotonic()
        cell = run(asked.data, asked.weights.absolute(), asked.work.absolute(), way=way, labels=labels, seed=seed)
        with asked.out.open("a") as out:
            out.write(json.dumps(dataclasses.asdict(cell)) + "\n")
        print(f"{way}, {labels} labels, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    print(table(read(asked.out), sorted(numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
