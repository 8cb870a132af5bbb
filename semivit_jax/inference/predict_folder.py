"""`semivit predict`: a folder of images to a CSV of predictions; what cannot be shown is listed and skipped."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from semivit_jax import console
from semivit_jax.data.dataset import cache_dir
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_scan import scan, unread_photos
from semivit_jax.inference.predict import TOP, Predictor
from semivit_jax.words import counted

_MOST_LINES = 20  # of skipped images in the output; the rest is counted


def predict_folder(predictor: Predictor, images: Path, out: Path) -> list[str]:
    """Predicts every image below a folder.

    The CSV has one row per image: path (relative to the folder), label, confidence, then the rest of the top 5
    as label_2, confidence_2 and so on. It appears whole, by rename.

    Args:
      predictor: from `semivit_jax.load`.
      images: folder, any nesting.
      out: CSV file; replaced when it exists.

    Returns:
      One line per image that was skipped.

    Raises:
      DatasetError: no folder, or not one image in it that can be read.
    """
    if not images.is_dir():
        raise DatasetError(f"--images {str(images)!r} is not a folder")
    found = scan(images, cache_dir=cache_dir())
    for warning in unread_photos(images, found):
        console.say(warning)
    skipped = list(found.problems)
    line = console.ProgressLine("predict", len(found.names), active=True, shown={})
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.{os.getpid()}")
    num_ranks = min(TOP, len(predictor.class_names))
    try:
        with open(building, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(_columns(num_ranks))
            answers = predictor.each(images / name for name in found.names)
            for number, (name, guesses) in enumerate(zip(found.names, answers, strict=True), start=1):
                if isinstance(guesses, BadImage):
                    skipped.append(f"{name!r}: {guesses}")
                else:
                    writer.writerow([name, *(text for g in guesses for text in (g.label, f"{g.confidence:.6f}"))])
                line.show(number, {})
    except BaseException:
        building.unlink()
        raise
    finally:
        line.close()
    if len(skipped) - len(found.problems) == len(found.names):
        building.unlink()
        raise DatasetError("\n".join([f"no image in {str(images)!r} can be read:", *_cut(skipped)]))
    building.replace(out)
    return skipped


def report(skipped: Sequence[str], out: Path, source: str) -> None:
    """Says what was written and what was left out."""
    if skipped:
        console.say(f"skipped {counted(len(skipped), 'file')}:")
        for line in _cut(skipped):
            console.say(f"  {line}")
    console.say(f"wrote {out}, with {source}")


def _columns(num_ranks: int) -> list[str]:
    rest = (name for rank in range(2, num_ranks + 1) for name in (f"label_{rank}", f"confidence_{rank}"))
    return ["path", "label", "confidence", *rest]


def _cut(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"... and {rest} more"] if rest > 0 else [])]
