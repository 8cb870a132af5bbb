"""Load finished weights for use, of a run, a checkpoint or an import: model, classes, view."""

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image

from semivit_jax import files
from semivit_jax.checkpoints import best, manifest, reading, temperatures, whole, workdir
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import Config, ConfigError
from semivit_jax.data.images.crop_resize import resize_short_side_and_crop
from semivit_jax.data.images.decode import BadImage
from semivit_jax.files import Path
from semivit_jax.models import tuning
from semivit_jax.plan import graded_by
from semivit_jax.recipes import stored
from semivit_jax.stages import STAGES
from semivit_jax.weights.folder import is_import, load_imported
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.weights import Weights

CLASS = "class"  # the kind of label whose heads predict, are exported and graded
KEPT = {"latest": "checkpoints", "best": "best"}  # which checkpoint of a stage -> the folder that holds it
AUTO = "auto"  # whichever of them `settled` says


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """How an image is decoded and becomes the model's input.

    Attributes:
      preprocessing: rotation, size, crop, interpolation, mean and std.
      keeps_size: images are taken as they are and must have the model's size (`config.data.affine_views`).
      max_pixels: larger images are refused before they are decoded, and those that would be larger once resized.
    """

    preprocessing: Preprocessing
    keeps_size: bool
    max_pixels: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The evaluation view of a decoded image, uint8 [height, width, 3] -> [size, size, 3].

        Raises:
          BadImage: `keeps_size`, and the image has another size; or it is too long, see `resize_short_side_and_crop`.
        """
        view, size = self.preprocessing, self.preprocessing.image_size
        if self.keeps_size:
            if image.shape != (size, size, 3):
                raise BadImage(
                    f"an image has the shape {image.shape}; the model takes {size} x {size} pixels as they are"
                )
            return image
        return resize_short_side_and_crop(
            image,
            image_size=view.image_size,
            crop_fraction=view.crop_fraction,
            interpolation="bilinear" if view.interpolation == "bilinear" else "bicubic",
            max_pixels=self.max_pixels,
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    """One set of weights and where it comes from.

    Attributes:
      source: folder and tree, for people.
      weights: of the tree.
      view: of the images; its preprocessing is the weights'.
      config: of the run that trained them; None for imports.
      label: kind of label that they were trained on, a row of data.rows.LABELS; '' where on none.
    """

    source: str
    weights: Weights
    view: ModelInput
    config: Config | None
    label: str


def load_trained(folder: Path, *, kept: str, tree: str | None, stage: str | None) -> Trained:
    """Reads one set of weights.

    Args:
      folder: a workdir, one checkpoint inside it (`semi/checkpoints/300`), or a folder of `semivit import`.
      kept: of a workdir, "latest" or "best" checkpoint by validation accuracy; the best of all its stages, unless
        `stage` names one.
      tree: "params" or "ema_params"; None takes ema_params where they exist.
      stage: of a workdir; None is the latest stage with a checkpoint.

    Raises:
      CheckpointError: no good checkpoint, or it lacks the tree that is asked for.
      ConfigError: the folder is none of these.
    """
    if is_import(folder):
        return _from_import(folder, tree)
    source = find_checkpoint(folder, kept=kept, stage=stage)
    facts, available = reading.read_facts(source), trees_of(source)
    chosen = available[-1] if tree is None else tree
    if chosen not in available:
        raise CheckpointError(f"{source} has no {chosen}; it has {', '.join(available)}")
    config = stored.check_stored(facts["config"])
    names, data = tuple(facts["class_names"]), config.data
    label = graded_by(STAGES[facts["stage"]].streams(config.stage(facts["stage"])))
    spec = STAGES[facts["stage"]].model(config, len(names))
    seen = {"exif_rotation": data.exif_rotation, "temperature": temperatures.of(source, chosen)}
    weights = Weights(
        spec=spec,
        params=whole.read(source, chosen, tuning.parting(config.model, spec)),
        class_names=names if label in ("", CLASS) else None,
        preprocessing=Preprocessing.from_json({**facts["preprocessing"], **seen}),
    )
    view = ModelInput(weights.preprocessing, data.affine_views is not None, data.max_pixels)
    return Trained(f"{source} ({chosen})", weights, view, config, label)


def find_checkpoint(folder: Path, *, kept: str, stage: str | None) -> Path:
    """The good checkpoint that `load_trained` reads; `folder` may be that checkpoint itself."""
    folder = files.absolute(folder)
    if manifest.is_sealed(folder):
        return reading.undamaged(folder)
    if not (folder / "config.json").exists():
        raise ConfigError(f"{folder} is neither a run folder, nor a checkpoint, nor written by `semivit import`")
    latest = stage or workdir.latest_stage(folder)
    holder = folder / latest / KEPT[kept]
    if kept == "best" and stage is None:
        of_run = best.of_stages(folder, stages_up_to(latest))
        good = None if of_run is None else of_run.checkpoint
    else:
        good = reading.newest_good(holder)
    if good is None:
        raise CheckpointError(f"{holder} has no good checkpoint")
    return good


class Settled(NamedTuple):
    """Which checkpoint to take, a key of KEPT, and a line to say first; '' where there is nothing to say."""

    kept: str
    remark: str


def settled(folder: Path, *, kept: str, stage: str | None) -> Settled:
    """Settles on the latest weights for AUTO, unless they ended below what the run knows to be better: then the best.

    Args:
      folder: as in `load_trained`. Of a checkpoint or an import, AUTO is the latest.
      stage: the same, and of one stage too.
      kept: a key of KEPT, which stays as it is, or AUTO.
    """
    asked = "latest" if kept == AUTO else kept
    if asked != "latest" or stage is not None or is_import(folder) or not (folder / "config.json").exists():
        return Settled(asked, "")
    latest = workdir.latest_stage(folder)
    report = folder / latest / "report.json"
    below = (files.read_json(report).get("below") or {}) if report.exists() else {}
    better = best.of_stages(folder, stages_up_to(latest)) if below else None
    if better is None:
        return Settled(asked, "")
    others = " and ".join(f"{name} ({100 * score:.1f} %)" for name, score in below.items())
    ended = f"warning: the latest weights of {folder} ended below {others}"
    if kept == AUTO:
        return Settled("best", f"{ended}; taken are the best, {better}; --weights=latest takes the latest all the same")
    return Settled(asked, f"{ended}; --weights=best takes the best, {better}")


def stages_up_to(latest: str) -> tuple[str, ...]:
    """Names of the stages, in their order, up to one."""
    return tuple(STAGES)[: list(STAGES).index(latest) + 1]


def trees_of(source: Path) -> tuple[str, ...]:
    """Which of params and ema_params a checkpoint, or an import, holds."""
    if is_import(source):
        return whole.TREES if load_imported(source).ema_params is not None else whole.TREES[:1]
    return whole.trees(source)


def check_classes(trained: Trained) -> None:
    """Raises ConfigError where a head was trained on other labels than classes."""
    if trained.label not in ("", CLASS):
        raise ConfigError(f"{trained.source} answers with {trained.label!r}, not with a class")


def backbone(trained: Trained) -> Trained:
    """The same weights as a model with features: an autoencoder becomes its encoder."""
    weights = trained.weights
    if weights.spec.decoder is None:
        return trained
    encoder = dataclasses.replace(weights.spec, decoder=None)
    weights = dataclasses.replace(weights, spec=encoder, params=weights.params["encoder"])
    return dataclasses.replace(trained, weights=weights)


def _from_import(folder: Path, tree: str | None) -> Trained:
    imported = load_imported(folder)
    weights = imported.weights
    has_ema = imported.ema_params is not None
    chosen = tree or whole.TREES[has_ema]
    if chosen == "ema_params" and not has_ema:
        raise CheckpointError(f"{folder} has no ema_params; it has params")
    if imported.ema_params is not None and chosen == "ema_params":
        weights = dataclasses.replace(weights, params=imported.ema_params)
    view = ModelInput(weights.preprocessing, False, Image.MAX_IMAGE_PIXELS or 0)  # under Pillow's own limit
    return Trained(f"{folder} ({chosen})", weights, view, None, CLASS)
