"""LabelSpreading on features of the network, on the split of a cell."""

import json
from typing import NamedTuple

import numpy as np
from sklearn.semi_supervised import LabelSpreading

from benchmarks.study.cells import Cell, Place
from semivit_jax import files
from semivit_jax.checkpoints import workdir
from semivit_jax.data.dataset import open_as_begun
from semivit_jax.inference import features
from semivit_jax.inference.features import Extract
from semivit_jax.inference.trained import load_trained
from semivit_jax.stages import label_free

TRIED = (5, 10, 20, 40)  # neighbours, chosen on the validation images
KEPT = "label_spreading.json"


class Seeing(NamedTuple):
    """What gives the features of training images, and of those that are graded."""

    training: Extract
    graded: Extract


def choose(place: Place, cell: Cell, seeing: Seeing) -> int:
    """The neighbours that do best on the validation images of the tuning cell; kept, so never chosen anew."""
    kept = place.root / KEPT
    if not kept.exists():
        found = _accuracies(place, cell, TRIED, seeing)
        best = max(found, key=lambda neighbours: found[neighbours])
        kept.write_text(json.dumps({"neighbours": best, "validation accuracy": found}))
    return json.loads(kept.read_text())["neighbours"]


def grade(place: Place, cell: Cell, neighbours: int, seeing: Seeing) -> None:
    """Keeps its test accuracy beside the cell whose split it takes; read once."""
    kept = (place.root / cell.name).with_name(KEPT)
    if not kept.exists():
        kept.write_text(json.dumps({"acc1": _accuracies(place, cell, (neighbours,), seeing)[neighbours]}))


def pre_trained(place: Place, cell: Cell) -> Seeing:
    """Features of the network after pre-training, of images as a cell sees them."""
    trained = load_trained(files.path(place.root / "mae"), kept="latest", tree="params", stage=None)
    extract = features.extractor(trained, workdir.load_config(files.path(place.root / cell.name)))
    return Seeing(extract, extract)


def _accuracies(place: Place, cell: Cell, tried: tuple[int, ...], seeing: Seeing) -> dict[int, float]:
    """Of the images that the cell is graded on, by the number of neighbours."""
    folder = files.path(place.root / cell.name)
    task = open_as_begun(workdir.load_config(folder), workdir=folder, label_free=label_free())
    labeled, labels = seeing.training(task.train.subset(task.split.labeled))
    unlabeled, _ = seeing.training(task.train.subset(task.split.unlabeled))
    graded, expected = seeing.graded(task.eval)
    seen = _unit(np.concatenate([labeled, unlabeled]))
    known = np.concatenate([labels, np.full(len(unlabeled), -1)])

    def accuracy(neighbours: int) -> float:
        spreading = LabelSpreading(kernel="knn", n_neighbors=neighbours, max_iter=100)
        return float(np.mean(spreading.fit(seen, known).predict(_unit(graded)) == expected))

    return {neighbours: accuracy(neighbours) for neighbours in tried}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)
