"""Predict a folder of images into a CSV; list and skip what cannot be decoded."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from semivit_jax import console, files
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_scan import not_looked_at, scan
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.inference.predict import TOP, Predictor
from semivit_jax.words import counted, shortened


def predict_folder(predictor: Predictor, images: Path, out: files.AnyPath) -> list[str]:
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
    for warning in not_looked_at(images, found):
        console.say(warning)
    skipped = list(found.problems)
    out = files.path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(out) as file:
        skipped += _write(file, predictor, images, found.names)
        if len(skipped) - len(found.problems) == len(found.names):
            raise DatasetError("\n".join([f"no image in {str(images)!r} can be read:", *shortened(skipped)]))
    return skipped


def _write(file: BinaryIO, predictor: Predictor, images: Path, names: Sequence[str]) -> list[str]:
    """Writes a row per image; one line per image that was skipped."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    writer, skipped = csv.writer(text), []
    writer.writerow(_columns(min(TOP, len(predictor.class_names))))
    try:
        answers = zip(names, predictor.each(images / name for name in names), strict=True)
        for name, guesses in console.track(answers, "predicting", total=len(names)):
            if isinstance(guesses, BadImage):
                skipped.append(f"{name!r}: {guesses}")
            else:
                writer.writerow([name, *(cell for g in guesses for cell in (g.label, f"{g.confidence:.6f}"))])
    finally:
        text.detach()  # the file stays open, and what is still in the wrapper goes into it
    return skipped


def tell(skipped: Sequence[str], out: files.AnyPath, source: str) -> None:
    """Says what was written and what was left out."""
    if skipped:
        console.say(f"skipped {counted(len(skipped), 'file')}:")
        for line in shortened(skipped):
            console.say(f"  {line}")
    console.say(f"wrote {out}, with {source}")


def _columns(num_ranks: int) -> list[str]:
    rest = (name for rank in range(2, num_ranks + 1) for name in (f"label_{rank}", f"confidence_{rank}"))
    return ["path", "label", "confidence", *rest]
