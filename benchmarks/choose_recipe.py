"""Is fine-tuning in `own_folder` right for few labels? Values around a centre, one at a time, on validation images.

    python -m benchmarks.choose_recipe --data=FOLDER --dinov2=IMPORT --mae=RUN [--labels=10,4,40] [--seeds=0,1,2]
    DATA=FOLDER DINOV2=IMPORT MAE=RUN make choose-recipe

FOLDER has class folders under FOLDER/train, and test images are never read. IMPORT is what `semivit import` wrote of
`benchmarks.trained_vit`, RUN a run of stage mae, as `benchmarks.study` leaves one in ROOT/small/mae; without one of the
two the other's cells are run alone, and --dinov2_long=IMPORT makes longer ones. Of each seed so many images per class
are drawn to train on, and 50 others to grade on, the same for every number of labels. A cell is a run of `semivit train
--config=own_folder` with stage finetune alone, everything trained. A JSON line per cell is appended to --out; cells
that are there are not repeated, and one that was stopped goes on.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.few_labels import train
from semivit_jax.configs import own_folder
from semivit_jax.recipes.check import check

RESULTS = Path(__file__).parent / "results" / "choose_recipe.jsonl"
VALIDATION = 50  # images per class
CENTRE = "centre"
_RECIPE = check(own_folder.get_config().to_dict()).stage("finetune")
CHANGES: Mapping[str, Mapping[str, Any]] = {  # of the centre, one at a time
    CENTRE: {},
    "base_lr / 3": {"finetune.base_lr": _RECIPE.base_lr / 3},
    "base_lr x 3": {"finetune.base_lr": _RECIPE.base_lr * 3},
    "published": {  # crops, mixing, erasing, smoothing and drop path of the paper's fine-tuning
        "data.photo_views.crop_scale": (0.08, 1.0), "finetune.labeled_mixup": True, "finetune.erase_prob": 0.25,
        "finetune.label_smoothing": 0.1, "finetune.drop_path_rate": 0.1,
    },
    "layer_decay 0.65": {"finetune.layer_decay": 0.65},
    "layer_decay 0.9": {"finetune.layer_decay": 0.9},  # what the recipe has since
    "drop_path_rate 0.1": {"finetune.drop_path_rate": 0.1},
}  # fmt: skip
RUNNING = {  # how a cell is run: as the recipe was before the choice; warm-up has its share of the updates
    "stages": ("finetune",), "data.train_split": "train", "data.eval_split": "validation",
    "data.validation_share": 0.0, "finetune.epochs": 1.0,
    "finetune.warmup_epochs": _RECIPE.warmup_epochs / _RECIPE.epochs, "finetune.layer_decay": 0.75,
    "train.eval_every_epochs": 1000.0, "train.eval_batch_size": 100, "train.max_images_per_device": 0,
    "log.writers": ("jsonl",), "log.tensorboard": False, "log.report": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
      told: above its table.
      inside: a file that its folder has.
      updates, batch: of every cell.
    """

    told: str
    inside: str
    updates: int
    batch: int


STARTS: Mapping[str, Start] = {
    "dinov2": Start("DINOv2-shaped ViT-S/14", "import.json", 60, 16),
    "dinov2_long": Start("DINOv2-shaped ViT-S/14, for the recipe's own length", "import.json", 200, 16),
    "mae": Start("small ViT after MAE pre-training", "config.json", 200, 32),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run that has ended, graded on validation images.

    Attributes:
      start: a row of STARTS.
      change: a row of CHANGES.
      labels: per class.
      probe: share right of logistic regression on the starting weights.
      reached: share right at the end.
      loss: cross-entropy at the end.
      updates, batch: of the run.
      seconds: of the whole process.
      load: mean number of runnable threads over the minute before.
    """

    start: str
    change: str
    labels: int
    seed: int
    probe: float
    reached: float
    loss: float
    updates: int
    batch: int
    seconds: float
    cores: int
    load: float
    date: str

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What no two cells have in common."""
        return self.start, self.change, self.labels, self.seed


def lay_out(data: Path, out: Path, *, labels: int, seed: int) -> Path:
    """Copies some training images into `out`/train and `out`/validation, by class; the latter are those of a seed."""
    if out.exists():
        return out
    making = out.with_name(f"{out.name}.part")  # so that what a kill cuts short is never taken for whole
    shutil.rmtree(making, ignore_errors=True)
    for role in sorted(path.name for path in (data / "train").iterdir()):
        files = sorted((data / "train" / role).iterdir())
        random.Random(f"{seed} {role}").shuffle(files)
        parts = {"validation": files[:VALIDATION], "train": files[VALIDATION : VALIDATION + labels]}
        for part, images in parts.items():
            (making / part / role).mkdir(parents=True)
            for image in images:
                shutil.copy(image, making / part / role)
    return making.rename(out)


def run(data: Path, weights: Path, work: Path, key: tuple[str, str, int, int]) -> Cell:
    """Trains one cell to its end; what it wrote goes, but for its log.

    Raises:
      SystemExit: the run failed.
    """
    name, change, labels, seed = key
    start, load, started = STARTS[name], os.getloadavg()[0], time.monotonic()
    photos = lay_out(data, work / f"photos_{labels}_{seed}", labels=labels, seed=seed)
    length = {"finetune.min_updates": start.updates, "finetune.batch_size": start.batch}
    given = {"data.root": photos, "seed": seed, **RUNNING, **length, **CHANGES[change]}
    workdir = work / f"{name}_{labels}_{seed}_{list(CHANGES).index(change)}"
    summary, _ = train(workdir, weights, given)
    report, plan = (json.loads((workdir / "finetune" / f"{of}.json").read_text()) for of in ("report", "plan"))
    shutil.rmtree(workdir)
    return Cell(
        start=name,
        change=change,
        labels=labels,
        seed=seed,
        probe=summary["baselines"]["linear_probe"]["acc1"],
        reached=report["val/acc1"],
        loss=report["val/loss"],
        updates=report["steps"],
        batch=plan["batch_size"],
        seconds=time.monotonic() - started,
        cores=len(os.sched_getaffinity(0)),
        load=load,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def planned(
    starts: Sequence[str], labels: Sequence[int], seeds: Sequence[int], changes: Sequence[str] = tuple(CHANGES)
) -> Iterator[tuple[str, str, int, int]]:
    """Keys of the cells in the order in which they are run: whole rows of a number of labels, one after the other."""
    for number, change, seed, start in itertools.product(labels, changes, seeds, starts):
        yield start, change, number, seed


def table(cells: Sequence[Cell], labels: Sequence[int]) -> str:
    """Markdown, a table per start: a row per change, a pair of columns per number of labels; means over the seeds.

    Beside the validation accuracy stands the difference to the centre on the same images, in points, with the lowest
    and the highest of the seeds. What has not run says so.
    """
    tables = []
    for name, start in STARTS.items():
        of = [cell for cell in cells if cell.start == name]
        head = [
            start.told,
            *itertools.chain.from_iterable((f"{n} labels per class", "to the centre", "log loss") for n in labels),
            "seeds",
        ]
        rows = [head, ["---"] * len(head), *(_row(change, of, labels) for change in ("probe", *CHANGES))]
        tables.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(tables)


def _row(change: str, cells: Sequence[Cell], labels: Sequence[int]) -> list[str]:
    """Of a change, or of the probe, which the cells of the centre tell."""
    row, counts = [], []
    for number in labels:
        centre = {cell.seed: cell for cell in cells if cell.labels == number and cell.change == CENTRE}
        if change == "probe":
            found = {seed: (cell.probe, None) for seed, cell in centre.items()}
        else:
            these = (cell for cell in cells if cell.labels == number and cell.change == change)
            found = {cell.seed: (cell.reached, cell.loss) for cell in these}
        losses = [loss for _, loss in found.values() if loss is not None]
        over = [share - centre[seed].reached for seed, (share, _) in found.items() if seed in centre]
        row += [
            f"{100 * statistics.fmean(share for share, _ in found.values()):.1f} %" if found else "not run",
            _points(over) if over and change != CENTRE else "-",
            f"{statistics.fmean(losses):.2f}" if losses else "-",
        ]
        counts.append(len(found))
    seeds = str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))
    return [change if change == "probe" else f"`{change}`", *row, seeds]


def _points(differences: Sequence[float]) -> str:
    mean, low, high = (100 * of(differences) for of in (statistics.fmean, min, max))
    return f"{mean:+.1f}" + (f" ({low:+.1f} to {high:+.1f})" if len(differences) > 1 else "")


def read(path: Path) -> list[Cell]:
    """The cells that have been run."""
    return [Cell(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def forecast(missing: Sequence[tuple[str, str, int, int]], cells: Sequence[Cell]) -> str:
    """How long the missing cells will take, by the mean of those of the same start."""
    taken = {name: [cell.seconds for cell in cells if cell.start == name] for name in STARTS}
    unknown = sorted({key[0] for key in missing if not taken[key[0]]})
    minutes = sum(statistics.fmean(taken[key[0]]) for key in missing if taken[key[0]]) / 60
    beside = f", and those of {', '.join(unknown)}, of which none has run" if unknown else ""
    return f"{len(missing)} cells left: about {minutes:.0f} min{beside}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing, and prints the table; returns the exit code, 2 where a folder is missing."""
    parser = argparse.ArgumentParser(prog="benchmarks.choose_recipe", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DATA"), help="folder with class folders in train/")
    for name, start in STARTS.items():
        parser.add_argument(f"--{name}", type=Path, default=os.environ.get(name.upper()), help=start.told)
    parser.add_argument("--labels", default="10,4,40", help="per class, in this order")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--changes", default=",".join(CHANGES), help="by their names in the table")
    parser.add_argument("--most", type=int, default=None, help="cells of this call; all by default, 0: the table alone")
    parser.add_argument("--work", type=Path, default=Path("runs/choose_recipe"), help="folder of images and runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    starts = {name: path for name in STARTS if (path := getattr(asked, name)) is not None}
    numbers, seeds = ([int(n) for n in text.split(",")] for text in (asked.labels, asked.seeds))
    changes = asked.changes.split(",")
    if unknown := set(changes) - CHANGES.keys():
        print(
            f"benchmarks.choose_recipe: --changes: {', '.join(unknown)}; there are {', '.join(CHANGES)}",
            file=sys.stderr,
        )
        return 2
    if asked.most != 0:
        needed = [("data", asked.data, "train"), *((n, path, STARTS[n].inside) for n, path in starts.items())]
        for name, folder, inside in needed:
            if folder is None or not (folder / inside).exists():
                print(f"benchmarks.choose_recipe: --{name}={folder}: no folder with {inside}", file=sys.stderr)
                return 2
        if not starts:
            print(f"benchmarks.choose_recipe: give --{' or --'.join(STARTS)}, weights to start from", file=sys.stderr)
            return 2
    asked.work.mkdir(parents=True, exist_ok=True)
    known = {cell.key for cell in read(asked.out)}
    missing = [key for key in planned(list(starts), numbers, seeds, changes) if key not in known]
    for done, key in enumerate(missing[: asked.most], 1):
        cell = run(asked.data, starts[key[0]].absolute(), asked.work.absolute(), key)
        with asked.out.open("a") as out:
            out.write(json.dumps(dataclasses.asdict(cell)) + "\n")
        print(f"{key}: {cell.seconds:.0f} s. {forecast(missing[done:], read(asked.out))}", flush=True)
    print(table(read(asked.out), sorted(numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
