"""Compute what the frozen network makes of all images once, where the cells find it."""

import contextlib
import functools
import json
import time

import numpy as np

from benchmarks.study import cells
from benchmarks.study.cells import Cell, Place
from benchmarks.study.sizes import TUNING_SEED
from benchmarks.study.spreading import Seeing
from semivit_jax import files
from semivit_jax.cli.flags import read_config
from semivit_jax.data.dataset import open_split, open_task
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.hosts.stopping import StopRequest
from semivit_jax.stages import label_free
from semivit_jax.training import goodput, run, sharding, view_features
from semivit_jax.training.compiled import compile_stage, stage_key
from semivit_jax.training.process import prepare_process
from semivit_jax.training.setup import Run, plan_stage
from semivit_jax.training.start import inherit
from semivit_jax.training.view_features import EVALUATION, Backbone, everything, table

KEPT = "features.json"
VIEWS = ("weak", "strong")  # of training images; labeled ones are seen as strong ones are


def keep(place: Place) -> Seeing:
    """Computes features of training images in their views, of validation and test images as evaluation sees them.

    Returns:
      What gives features that are kept: of training images in their first weak view.
    """
    backbone, began = open_backbone(place), time.monotonic()
    kept, config, task = place.root / KEPT, backbone.run.config, backbone.run.task
    if not kept.exists():
        for row in VIEWS:
            table(backbone, row, task.train, everything(task.train))
        graded = [open_split(config, task, part) for part in ("validation", "test")]
        for images in graded:
            table(backbone, EVALUATION, images, everything(images))
        told = {
            "seconds of the start that ended it": round(time.monotonic() - began),
            "training images": len(task.train),
            "graded images": sum(map(len, graded)),
            "views": config.data.cache_features,
            "image_size": config.data.image_size,
            "model": config.model.variant,
            "weights": backbone.hash,
        }
        kept.write_text(json.dumps(told, indent=1) + "\n")

    return Seeing(functools.partial(_first, backbone, "weak"), functools.partial(_first, backbone, EVALUATION))


def _first(backbone: Backbone, row: str, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Features of the images' first view, and their labels."""
    found = table(backbone, row, images, everything(images))
    good = np.flatnonzero(found.row_of >= 0)
    return found.features[found.row_of[good], 0], images.labels[good]


def train(cell: Cell, place: Place) -> None:
    """Trains a cell in this process: to start one would take as long as its updates. What it says is in its log."""
    folder = place.root / cell.name
    if (folder / "DONE").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.log").open("a") as log, contextlib.redirect_stdout(log):
        config, _ = read_config("train", cells.config_of(cell, place), files.path(folder))
        run.train(config, files.path(folder))


def open_backbone(place: Place) -> Backbone:
    """The frozen network as every cell has it."""
    folder = files.path(place.root / "features")
    config, _ = read_config("train", cells.config_of(Cell("head", TUNING_SEED, tuning=True), place), None)
    prepare_process(config)
    task = open_task(config, workdir=None, label_free=label_free())
    mesh = sharding.make_mesh(config.mesh.fsdp)
    begun = Run(config, folder, task, mesh, StopRequest(), goodput.Book(goodput.steady_clock()))
    plan = plan_stage(begun, "finetune")
    compiled = compile_stage(config, plan, mesh)
    (folder / plan.stage).mkdir(parents=True, exist_ok=True)
    state = inherit(begun, compiled, compiled.init(stage_key(config, plan.stage))).state
    return view_features.backbone_of(begun, compiled, state)
