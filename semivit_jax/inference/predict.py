"""Predict with a trained classifier: `semivit_jax.load("runs/digits").predict(["a.jpg"])`."""

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from semivit_jax import files
from semivit_jax.data.images.decode import BadImage
from semivit_jax.inference.any_image import AnyImage, is_open, padded, view_or_reason
from semivit_jax.inference.trained import AUTO, Trained, check_classes, load_trained, settled
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights.preprocessing import normalise
from semivit_jax.words import counted

TOP = 5
_log = logging.getLogger(__name__)


class Guess(NamedTuple):
    """A class and its probability."""

    label: str
    confidence: float


class Answer(NamedTuple):
    """What is said of an image: guesses, most probable first, and its energy.

    The energy -log sum_k exp(logit_k) (Liu et al. 2020, "Energy-based Out-of-distribution Detection", eq. 4 with T = 1)
    is the higher, the less the image looks like any class; only its order among images of one model means something.
    """

    guesses: tuple[Guess, ...]
    outlier_score: float


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions for n images, in their order.

    Attributes:
      top5: per image up to five guesses, most probable first.
    """

    top5: tuple[tuple[Guess, ...], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Most probable class of every image."""
        return tuple(guesses[0].label for guesses in self.top5)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of that class, float32 [n]."""
        return np.array([guesses[0].confidence for guesses in self.top5], np.float32)

    def __len__(self) -> int:
        return len(self.top5)


class Predictor:
    """A classifier with the evaluation view it was trained for; compiled once, for one batch size."""

    def __init__(self, trained: Trained, *, batch_size: int):
        """Args: trained, weights with a head; batch_size, images per forward pass.

        Raises:
          ValueError: the weights have no classifier, or the batch has no image.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least 1")
        weights = trained.weights
        if not weights.spec.num_classes:
            raise ValueError(f"{trained.source} has no classifier, so there is nothing to predict with")
        check_classes(trained)
        self.source, self.view, self._batch_size = trained.source, trained.view, batch_size
        self.class_names, self.variant = weights.output_names, weights.spec.variant
        self._params = jax.device_put(weights.params)
        network = families.network(weights.spec, PLAIN, 0.0)

        def answer(params: dict, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = network.logits(params, normalise(pixels, weights.preprocessing), None)
            probs = jax.nn.softmax(logits / weights.preprocessing.temperature, axis=-1)
            return probs, -jax.nn.logsumexp(logits, axis=-1)

        self._answer = jax.jit(answer)

    def __repr__(self) -> str:
        size = self.view.preprocessing.image_size
        names = ", ".join(self.class_names[:TOP]) + (", ..." if len(self.class_names) > TOP else "")
        what = (
            f"{self.variant} on {size} x {size} pixels, {counted(len(self.class_names), 'class', 'classes')} ({names})"
        )
        return f"<Predictor: {what}, from {self.source}>"

    def predict(self, images: AnyImage | Sequence[AnyImage]) -> Predictions:
        """Predictions for one image or many.

        Args:
          images: one or several of `AnyImage`, mixed as you like; an array [n, height, width, 3] is n images.

        Raises:
          BadImage: an image that cannot be decoded, with its place in `images`.
          TypeError: something that is no image.
        """
        found = tuple(self.each(_as_several(images)))
        for place, guesses in enumerate(found):
            if isinstance(guesses, BadImage):
                raise BadImage(f"image {place}: {guesses}") from guesses
        return Predictions(tuple(guesses for guesses in found if not isinstance(guesses, BadImage)))

    def each(self, images: Iterable[AnyImage]) -> Iterator[tuple[Guess, ...] | BadImage]:
        """Guesses for every image in turn, or why it cannot be shown; reads one batch ahead, never all at once."""
        return (found if isinstance(found, BadImage) else found.guesses for found in self.answers(images))

    def answers(self, images: Iterable[AnyImage]) -> Iterator[Answer | BadImage]:
        """The same with the energy of each image."""
        images, pending = iter(images), None
        with ThreadPoolExecutor() as threads:
            while chunk := list(itertools.islice(images, self._batch_size)):
                views = list(threads.map(lambda image: view_or_reason(image, self.view), chunk))
                # The device works on this batch while the next one is decoded.
                started = self._start(views)
                if pending is not None:
                    yield from self._finish(*pending)
                pending = views, started
            if pending is not None:
                yield from self._finish(*pending)

    def _start(self, views: list[np.ndarray | BadImage]) -> tuple[jax.Array, jax.Array]:
        """Probabilities and energies of a batch, padded to the compiled size; returns before they are there."""
        pixels = padded(views, self._batch_size, self.view.preprocessing.image_size)
        return self._answer(self._params, pixels)

    def _finish(
        self, views: list[np.ndarray | BadImage], found: tuple[jax.Array, jax.Array]
    ) -> Iterator[Answer | BadImage]:
        probs, energy = map(np.asarray, found)
        for view, row, score in zip(views, probs, energy, strict=False):  # the rest is padding
            best = np.argsort(-row, kind="stable")[:TOP]
            guesses = tuple(Guess(self.class_names[label], float(row[label])) for label in best)
            yield view if isinstance(view, BadImage) else Answer(guesses, float(score))


def load(
    folder: str | os.PathLike,
    *,
    weights: str = AUTO,
    use: str | None = None,
    stage: str | None = None,
    batch_size: int = 64,
) -> Predictor:
    """Opens a run, one of its checkpoints, or imported weights for prediction.

        predictor = semivit_jax.load("runs/digits")
        predictor.predict("photo.jpg").labels[0]

    Args:
      folder: workdir, checkpoint, or folder of `semivit import`.
      weights: "latest" checkpoint, or "best" by validation accuracy; "auto" takes the latest unless it ended below the
        probe on the starting weights or an earlier stage, which is logged.
      use: "params" or "ema_params"; None takes ema_params where they exist.
      stage: of the workdir; None is the latest.
      batch_size: images per forward pass.
    """
    source = files.path(folder)
    if weights == AUTO:
        weights, remark = settled(source, kept=weights, stage=stage)
        if remark:
            _log.warning("%s", remark.removeprefix("warning: "))
    return Predictor(load_trained(source, kept=weights, tree=use, stage=stage), batch_size=batch_size)


def _as_several(images: AnyImage | Sequence[AnyImage]) -> Iterable[AnyImage]:
    if isinstance(images, np.ndarray):
        return images if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | bytes | os.PathLike | Image.Image) or is_open(images) else images
