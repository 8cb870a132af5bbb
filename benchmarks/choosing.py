"""What a choice of images to label is worth: accuracy of probes on chosen labels, beside labels drawn at random.

    python -m benchmarks.choosing digits --workdir=runs/digits --stage=mae --out=SCRATCH
    DATA=FOLDER python -m benchmarks.choosing folder --workdir=weights/vit_s14 --out=SCRATCH

`digits` are those of the demo. FOLDER has `train/CLASS` and `test/CLASS`; of each class the first photos take part, as
many as `--train_per_class` and `--test_per_class` say. Features are written into SCRATCH once. Then, for each of five
seeds, four fifths of the training images are drawn, and every method of `semivit select` chooses 10 and 40 of them,
without a label. The chosen ones are labeled, and the protocols `knn` and `linear` of `semivit eval` classify the test
images. `random` draws without regard to classes, as a person who labels the first photos at hand does. `dropquery`
needs labels and takes no part.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semivit_jax import files
from semivit_jax.cli.embed import of_config, of_folder
from semivit_jax.cli.flags import read_config
from semivit_jax.data.opening import open_split_of
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.inference import embedding, selecting
from semivit_jax.inference.embed import embed
from semivit_jax.inference.trained import load_trained
from semivit_jax.recipes.find import with_paths
from semivit_jax.training import probes

COUNTS, SEEDS, SHARE = (10, 40), range(5), 0.8
METHODS = [method for method in selecting.METHODS if method != "dropquery"]
PROTOCOLS = {"k-NN": probes.knn, "linear": probes.linear}
BAD_USAGE = 2


class Part(NamedTuple):
    """Features of training or test images, float32 [n, width], and their classes, int [n]."""

    features: np.ndarray
    labels: np.ndarray
    names: Sequence[str]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("digits", "folder"))
    parser.add_argument("--workdir", required=True, help="run or import that gives the features")
    parser.add_argument("--stage", help="of a run")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder, which keeps the features")
    parser.add_argument("--train_per_class", type=int, default=300)
    parser.add_argument("--test_per_class", type=int, default=100)
    flags = parser.parse_args(argv)
    folder = os.environ.get("DATA", "")
    if flags.what == "folder" and not (Path(folder) / "train").is_dir():
        print("DATA=FOLDER must name a folder with train/CLASS and test/CLASS", file=sys.stderr)
        return BAD_USAGE
    trained = load_trained(files.path(flags.workdir), kept="latest", tree=None, stage=flags.stage)
    parts = [
        _part(flags, folder, split, per_class, trained)
        for split, per_class in (("train", flags.train_per_class), ("test", flags.test_per_class))
    ]
    print(f"{len(parts[0].labels):,} training and {len(parts[1].labels):,} test images, {trained.source}\n")
    print(table(*parts))
    return 0


def _part(flags: argparse.Namespace, folder: str, split: str, per_class: int, trained) -> Part:
    """Features of a split, computed where they are not there yet."""
    out = files.path(flags.out / split)
    if flags.what == "digits":
        config, _ = read_config("embed", with_paths(["--config=digits"]), None)
        images, listing = of_config(config, split), open_split_of(config.data, split, class_names=None)[1]
        classes = dict(zip(images.names, listing.labels.tolist(), strict=True))
    else:
        root = Path(folder) / split
        listed = flags.out / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        kinds = sorted(path.name for path in root.iterdir() if path.is_dir())
        names = [f"{kind}/{photo.name}" for kind in kinds for photo in sorted((root / kind).iterdir())[:per_class]]
        listed.write_text("\n".join(names) + "\n")
        images, classes = of_folder(root, listed), {name: kinds.index(name.partition("/")[0]) for name in names}
    embed(trained, images, out, kind="npz", dtype="float32", batch_size=64)
    found = embedding.read(out)
    return Part(np.asarray(found.features), np.array([classes[name] for name in found.names]), found.names)


def table(train: Part, test: Part) -> str:
    """Accuracies in percent of each method, mean and standard deviation over the seeds, as Markdown."""
    heads = [f"{count} labels, {protocol}" for count in COUNTS for protocol in PROTOCOLS]
    lines = ["| method | " + " | ".join(heads) + " | classes among 10 | seconds for 40 |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    for method in METHODS:
        found = [_once(method, train, test, seed) for seed in SEEDS]
        cells = [f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in zip(*(f[0] for f in found), strict=True)]
        classes, seconds = np.mean([f[1] for f in found]), np.mean([f[2] for f in found])
        lines.append(f"| `{method}` | " + " | ".join(cells) + f" | {classes:.1f} | {seconds:.1f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _once(method: str, train: Part, test: Part, seed: int) -> tuple[list[float], int, float]:
    """Accuracies in the order of the table, how many classes the first choice has, and seconds of the last one."""
    pool = np.sort(np.random.default_rng(seed).permutation(len(train.labels))[: round(SHARE * len(train.labels))])
    accuracies, classes, seconds = [], 0, 0.0
    for count in COUNTS:
        start = time.perf_counter()
        places, _ = selecting.select(
            method,
            train.features[pool],
            np.full(len(pool), -1, np.int32),
            [train.names[int(place)] for place in pool],
            count=count,
            folders="",
            alike=0.99,
            seed=seed,
        )
        seconds = time.perf_counter() - start
        chosen = pool[places]
        classes = classes or len(np.unique(train.labels[chosen]))
        for probe in PROTOCOLS.values():
            num_classes = int(train.labels.max()) + 1
            logits = probe(train.features[chosen], train.labels[chosen], num_classes=num_classes)(test.features)
            accuracies.append(100 * float(np.mean(logits.argmax(axis=1) == test.labels)))
    return accuracies, classes, seconds


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DatasetError as error:
        sys.exit(f"benchmarks.choosing: {error}")
