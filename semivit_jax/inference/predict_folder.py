"""Predict a folder of images into a CSV; list and skip what cannot be decoded."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from semivit_jax import console, files
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder_scan import not_looked_at, scan
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.inference.predict import TOP, Predictor
from semivit_jax.words import counted, shortened


class Extras(NamedTuple):
    """What comes into the CSV besides.

    Attributes:
      outlier_score: whether it has that column.
      abstain_below: confidence under which an image gets no label; 0 labels all.
    """

    outlier_score: bool
    abstain_below: float


NOTHING_MORE = Extras(outlier_score=False, abstain_below=0.0)


def predict_folder(
    predictor: Predictor, images: Path, out: files.AnyPath, *, extras: Extras = NOTHING_MORE
) -> list[str]:
    """Predicts every image below a folder.

    The CSV has one row per image: path (relative to the folder), label, confidence, then the rest of the top 5
    as label_2, confidence_2 and so on, and what `extras` ask for. It appears whole, by rename.

    Args:
      predictor: from `semivit_jax.load`.
      images: folder, any nesting.
      out: CSV file; replaced when it exists.
      extras: see `Extras`.

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
        skipped += _write(file, predictor, images, found.names, extras)
        if len(skipped) - len(found.problems) == len(found.names):
            raise DatasetError("\n".join([f"no image in {str(images)!r} can be read:", *shortened(skipped)]))
    return skipped


def _write(file: BinaryIO, predictor: Predictor, images: Path, names: Sequence[str], extras: Extras) -> list[str]:
    """Writes a row per image, and says how many got no label; one line per image that was skipped."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    writer, skipped, unsure = csv.writer(text), [], 0
    score = ["outlier_score"] if extras.outlier_score else []
    writer.writerow([*_columns(min(TOP, len(predictor.class_names))), *score])
    try:
        answers = zip(names, predictor.answers(images / name for name in names), strict=True)
        for name, answer in console.track(answers, "predicting", total=len(names)):
            if isinstance(answer, BadImage):
                skipped.append(f"{name!r}: {answer}")
            else:
                cells = [cell for guess in answer.guesses for cell in (guess.label, f"{guess.confidence:.6f}")]
                if answer.guesses[0].confidence < extras.abstain_below:
                    cells[0], unsure = "", unsure + 1
                writer.writerow([name, *cells, *([f"{answer.outlier_score:.6f}"] if score else [])])
    finally:
        text.detach()  # the file stays open, and what is still in the wrapper goes into it
    if extras.abstain_below:
        told = f"confidence below {extras.abstain_below:g}"
        console.say(f"{counted(unsure, 'image')} of {len(names) - len(skipped):,} without a label: {told}")
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
