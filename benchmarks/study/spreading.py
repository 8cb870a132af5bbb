"""LabelSpreading on features of the network, on the split of a cell."""

import json

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


def choose(place: Place, cell: Cell, extract: Extract) -> int:
    """The neighbours that do best on the validation images of the tuning cell; kept, so never chosen anew."""
    kept = place.root / KEPT
    if not kept.exists():
        found = _accuracies(place, cell, TRIED, extract)
        best = max(found, key=lambda neighbours: found[neighbours])
        kept.write_text(json.dumps({"neighbours": best, "validation accuracy": found}))
    return json.loads(kept.read_text())["neighbours"]


def grade(place: Place, cell: Cell, neighbours: int, extract: Extract) -> None:
    """Keeps its test accuracy beside the cell whose split it takes; read once."""
    kept = (place.root / cell.name).with_name(KEPT)
    if not kept.exists():
        kept.write_text(json.dumps({"acc1": _accuracies(place, cell, (neighbours,), extract)[neighbours]}))


def pre_trained(place: Place, cell: Cell) -> Extract:
    """Features of the network after pre-training, of images as a cell sees them."""
    trained = load_trained(files.path(place.root / "mae"), kept="latest", tree="params", stage=None)
    return features.extractor(trained, workdir.load_config(files.path(place.root / cell.name)))


def _accuracies(place: Place, cell: Cell, tried: tuple[int, ...], extract: Extract) -> dict[int, float]:
    """Of the images that the cell is graded on, by the number of neighbours."""
    folder = files.path(place.root / cell.name)
    task = open_as_begun(workdir.load_config(folder), workdir=folder, label_free=label_free())
    labeled, labels = extract(task.train.subset(task.split.labeled))
    unlabeled, _ = extract(task.train.subset(task.split.unlabeled))
    graded, expected = extract(task.eval)
    seen = _unit(np.concatenate([labeled, unlabeled]))
    known = np.concatenate([labels, np.full(len(unlabeled), -1)])

    def accuracy(neighbours: int) -> float:
        spreading = LabelSpreading(kernel="knn", n_neighbors=neighbours, max_iter=100)
        return float(np.mean(spreading.fit(seen, known).predict(_unit(graded)) == expected))

    return {neighbours: accuracy(neighbours) for neighbours in tried}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)
