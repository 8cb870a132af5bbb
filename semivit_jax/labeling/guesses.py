"""Hold what a model takes the images for: of a table of `semivit predict`, or of a run that predicts meanwhile."""

import csv
import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.label_paths import Images
from semivit_jax.inference.predict import Predictor

_LOWEST_PRIORITY = 19  # of a thread that predicts while somebody looks at pages
_COLUMNS = ("path", "label", "confidence")

_log = logging.getLogger(__name__)


class Guess(NamedTuple):
    """What an image is taken for, '' where the model abstains, and the probability of the likeliest class."""

    place: int
    label: str
    confidence: float


class Guesses:
    """They come one after the other; several threads may ask.

    Attributes:
      source: whose they are, for people; '' of nobody's.
      classes: that are told apart.
    """

    def __init__(self, source: str, classes: Sequence[str]):
        self.source, self.classes = source, tuple(classes)
        self._found: list[Guess] = []
        self._running: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def working(self) -> bool:
        """Whether more are to come."""
        return self._running is not None and self._running.is_alive()

    def since(self, number: int) -> list[Guess]:
        """Those that have come after the first ones."""
        return self._found[number:]

    def fill(self, guesses: Sequence[Guess]) -> None:
        self._found += guesses

    def start(self, predictor: Predictor, root: Path, names: Sequence[str], order: Sequence[int]) -> None:
        """Begins to predict the images, in a thread.

        Args:
          predictor: of the run.
          root, names: of the images.
          order: places of the images, those that are looked at first at the beginning.
        """
        self._running = threading.Thread(target=self._predict, args=(predictor, root, names, order), daemon=True)
        self._running.start()

    def stop(self) -> None:
        self._ended.set()

    def _predict(self, predictor: Predictor, root: Path, names: Sequence[str], order: Sequence[int]) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)

        def paths() -> Iterator[Path]:
            for place in order:
                if self._ended.is_set():
                    return
                yield root / names[place]

        unread = 0
        for place, guesses in zip(order, predictor.each(paths()), strict=False):
            if isinstance(guesses, BadImage):
                unread += 1
            else:
                self._found.append(Guess(place, guesses[0].label, guesses[0].confidence))
        if unread:
            _log.warning("%d images could not be read, and have no guess", unread)


def from_csv(file: Path, images: Images) -> Guesses:
    """The guesses of a table that `semivit predict` has written; those of other images are passed over.

    Raises:
      ValueError: it is no such table, or has none of the images.
    """
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as opened:
        reader = csv.DictReader(opened)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"{file} has not the columns {', '.join(_COLUMNS)}; write it with semivit predict")
        rows = [_guess(row, images, f"{file.name} line {reader.line_num}") for row in reader]
    found = [guess for guess in rows if guess is not None]
    if not found:
        raise ValueError(f"{file} names not one image of {str(images.root)!r}; predict these: --images={images.root}")
    guesses = Guesses(file.name, sorted({guess.label for guess in found if guess.label}))
    guesses.fill(found)
    return guesses


def _guess(row: Mapping[str, str | None], images: Images, where: str) -> Guess | None:
    """The guess of a row; None where it is of another image.

    Raises:
      ValueError: the row is cut off, or its confidence is no probability.
    """
    path, label, written = (row[column] for column in _COLUMNS)
    if path is None or label is None or written is None:
        raise ValueError(f"{where} is cut off; write the table again: semivit predict")
    try:
        confidence = float(written)
    except ValueError:
        confidence = math.nan
    if not 0 <= confidence <= 1:
        raise ValueError(f"{where} has the confidence {written!r}; 0 to 1, as semivit predict writes it")
    place = images.find(path)
    return None if place is None else Guess(place, label, confidence)
