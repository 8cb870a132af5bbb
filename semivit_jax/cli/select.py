"""Choose which images to label first: `semivit select`."""

import argparse
import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivit_jax import console, files
from semivit_jax.cli.exits import usage_error
from semivit_jax.cli.guarded import guarded
from semivit_jax.cli.paths import output_file, place
from semivit_jax.data.sources import folder_labels, label_table
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.label_paths import Images, relative
from semivit_jax.inference import embedding, selecting
from semivit_jax.inference.embedding import Embedding
from semivit_jax.words import counted


def select(argv: Sequence[str]) -> int:
    """Writes a table of the images that are worth a label, the first one first."""
    parser = argparse.ArgumentParser(
        prog="semivit select", description="Choose which images to label first.", allow_abbrev=False
    )
    parser.add_argument("--embedding", required=True, metavar="DIR", help="of `semivit embed`")
    parser.add_argument("--count", required=True, type=int, help="how many images")
    parser.add_argument("--by", choices=tuple(selecting.METHODS), default="typiclust")
    parser.add_argument("--out", required=True, type=output_file, metavar="CSV", help="path,label with empty labels")
    parser.add_argument("--labels", type=place, metavar="CSV", help="labels that there are; their images are covered")
    parser.add_argument("--folders", choices=selecting.FOLDERS, default="", help="a share for each folder at the top")
    parser.add_argument("--alike", type=float, default=0.99, help="cosine similarity of images that are the same")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(argv)
    for wrong, text in (
        (flags.count < 1, f"--count is {flags.count}; at least 1"),
        (not 0 < flags.alike <= 2, f"--alike is {flags.alike}; above 0, and above 1 nothing counts as the same"),
        (flags.seed < 0, f"--seed is {flags.seed}; at least 0"),
    ):
        if wrong:
            return usage_error("select", ValueError(text))

    with guarded(also=(ValueError, ImportError)) as outcome:
        selecting.check(flags.by)
        _check_out(flags.out)
        found = embedding.read(files.path(flags.embedding))
        found, labels = _labeled(found, flags.labels)
        with console.working(f"choosing by {flags.by}"):
            chosen, told = selecting.select(
                flags.by,
                found.features,
                labels,
                found.names,
                count=flags.count,
                folders=flags.folders,
                alike=flags.alike,
                seed=flags.seed,
            )
        for line in told:
            console.say(line)
        _write(flags.out, [found.names[int(place)] for place in chosen])
        console.say(f"wrote {flags.out}: {counted(len(chosen), 'image')} of {found.about['images']} to label")
    return outcome.code


def _labeled(found: Embedding, table: Path | None) -> tuple[Embedding, np.ndarray]:
    """The images that may be chosen or have a label, and their labels, int32 [n], -1 where the table has none.

    Images that the table says belong to no class are looked at already, and left out.

    Raises:
      DatasetError: the table is wrong, or names images without features.
    """
    if table is None:
        return found, np.full(len(found), -1, np.int32)
    root = Path(found.about["images"])
    beyond = _without_features(table, Images(root, found.names))
    labeled = folder_labels.from_csv(table, root=root, names=[*found.names, *beyond], left_out=())
    if labeled.errors:
        raise DatasetError("\n".join(labeled.errors))
    if beyond:
        these = counted(len(beyond), "image")
        console.say(f"{these} of {table} without features, {beyond[0]!r} first: they are not counted as covered; "
                    "semivit embed with another --out takes them in")  # fmt: skip
    keep = ~labeled.none[: len(found)]
    names = list(itertools.compress(found.names, keep.tolist()))
    return Embedding(names, found.features[keep], found.about), labeled.labels[: len(found)][keep]


def _without_features(table: Path, images: Images) -> list[str]:
    """Names in a table that are files of the folder, but not of the embedding: made later, or not listed then."""
    rows = label_table.read(table, is_image=lambda path: True).rows
    missing = (relative(row.path, images.root) for row in rows if images.find(row.path) is None)
    return [name for name in dict.fromkeys(missing) if name and (images.root / name).is_file()]


def _check_out(out: files.Path) -> None:
    """Raises FileExistsError where what would be replaced holds labels that somebody has written into it."""
    if out.is_file():
        text = out.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if any((row.get("label") or "").strip() for row in rows):
            raise FileExistsError(f"--out {out} holds labels, which would be lost; give another file, or move it away")


def _write(out: files.Path, names: Sequence[str]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label"])
    writer.writerows([name, ""] for name in names)
    with files.writing(out) as opened:
        opened.write(text.getvalue().encode(errors="surrogateescape"))
