"""Grade every set of weights of a run, a checkpoint or an import on one split."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import class_rows, init_from, reading, workdir
from semivit_jax.config import Config, ConfigError, DataConfig
from semivit_jax.data.opening import Photos
from semivit_jax.files import Path
from semivit_jax.inference import features
from semivit_jax.inference.graded_images import FITTED_ON, Graded, of_config, of_photos, of_run
from semivit_jax.inference.trained import CLASS, Trained, check_classes, find_checkpoint, load_trained, trees_of
from semivit_jax.ops import metrics, scores
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.scores import Scores
from semivit_jax.recipes import stored
from semivit_jax.stages.stage import ImageDraws, see
from semivit_jax.training import probes, sharding
from semivit_jax.training.evaluate import batches_of, sums
from semivit_jax.training.process import prepare_process
from semivit_jax.weights.folder import is_import
from semivit_jax.weights.preprocessing import Preprocessing

PROTOCOLS = {
    "head": "the classifier's own head",
    "knn": (
        f"k-nearest neighbours on frozen features: the {probes.NEIGHBOURS} labeled images of highest cosine "
        f"similarity, or all where there are fewer, vote with exp(similarity / {probes.TEMPERATURE})"
    ),
    "linear": "logistic regression (scikit-learn, C = 1) on standardised frozen features of the labeled images",
}


class Calibrated(NamedTuple):
    """Scores of logits that were divided by a temperature: loss and calibration error differ, the rest is the same."""

    temperature: float
    scores: Scores


@dataclasses.dataclass(frozen=True)
class Grades:
    """What was graded, how, and the scores per set of weights ('params', 'ema_params').

    Attributes:
      found: of the logits as they are.
      calibrated: of the weights that have a temperature.
      labeled: labeled images of each class, by which classes are common or rare; None where that is not known.
    """

    source: str
    dataset: str
    split: str
    protocol: str
    class_names: tuple[str, ...]
    found: dict[str, Scores]
    calibrated: dict[str, Calibrated]
    labeled: tuple[int, ...] | None


def grade(
    folder: Path,
    config: Config | None,
    *,
    split: str,
    protocol: str,
    kept: str,
    stage: str | None,
    photos: Photos | None = None,
    notes: Sequence[str] = (),
) -> Grades:
    """Grades params and, where they exist, ema_params.

    Args:
      folder: workdir, checkpoint, or import.
      config: names the data; None takes the run's own, which imports do not have. Size, normalisation and EXIF
        rotation of the images are always those of the weights.
      split: see `dataset.open_split`.
      protocol: a key of PROTOCOLS.
      kept: of a workdir, "latest" or "best".
      stage: of a workdir; None is the latest.
      photos: to grade on in the place of a split.
      notes: lines to print first, once it is known which host prints.

    Raises:
      ConfigError: no data named, or the protocol cannot grade these weights on this split.
    """
    source = folder if is_import(folder) else find_checkpoint(folder, kept=kept, stage=stage)
    own = config is None
    if config is None:
        config = _own_config(folder, source)
    if protocol != "head" and split in FITTED_ON:
        raise ConfigError(f"--split={split} holds the images that --protocol={protocol} is fitted on; take another")
    prepare_process(config)  # before the weights are read, which touches a device
    for line in notes:
        console.say(line)
    with console.working("reading the weights"):
        first = load_trained(source, kept=kept, tree="params", stage=None)
    config = dataclasses.replace(config, data=seen_as(config.data, first.weights.preprocessing))
    graded = _choose(first, source, config, own=own, split=split, photos=photos, fits=protocol != "head")
    grade_one = _grade_head if protocol == "head" else _grade_probe
    found, calibrated = {}, {}
    for tree in trees_of(source):
        with console.working("reading the weights"):
            trained = load_trained(source, kept=kept, tree=tree, stage=None)
        sums_of = grade_one(trained, config, graded, protocol)
        found[tree] = scores.scores(sums_of[1.0])
        for temperature in sums_of.keys() - {1.0}:
            calibrated[tree] = Calibrated(temperature, scores.scores(sums_of[temperature]))
    names, labeled = graded.class_names, _labeled_per_class(graded)
    return Grades(str(source), graded.dataset, graded.split, PROTOCOLS[protocol], names, found, calibrated, labeled)


def _labeled_per_class(graded: Graded) -> tuple[int, ...] | None:
    if graded.labeled is None:
        return None
    labels = graded.labeled.labels
    return tuple(np.bincount(labels[labels >= 0], minlength=len(graded.class_names)).tolist())


def _choose(
    trained: Trained, source: Path, config: Config, *, own: bool, split: str, photos: Photos | None, fits: bool
) -> Graded:
    """The images to grade; `own` where the config is the run's, `fits` where a probe is fitted first."""
    run = init_from.run_of(source) if own else None
    if photos is None:
        return of_config(config, source, split) if run is None else of_run(config, run, split)
    labeled = of_run(config, run, "").labeled if fits and run is not None else None
    names = trained.weights.class_names or trained.weights.output_names
    return of_photos(config, photos, source, names, labeled)


def _own_config(folder: Path, source: Path) -> Config:
    """Of a workdir, whose paths may have changed since the checkpoint was written, or else of the checkpoint."""
    if is_import(folder):
        raise ConfigError(f"{folder} is an import and names no data: give --config=FILE")
    if (folder / "config.json").exists():
        return workdir.load_config(folder)
    return stored.check_stored(reading.read_facts(source)["config"])


def _grade_head(trained: Trained, config: Config, graded: Graded, protocol: str) -> dict[float, Metrics]:
    """Sums by temperature: of the logits as they are, and divided by that of the weights."""
    del protocol
    if not trained.weights.spec.num_classes:
        raise ConfigError(f"{trained.source} has no classifier; give --protocol=knn or --protocol=linear")
    check_classes(trained)
    if trained.weights.spec.num_classes != len(graded.class_names):
        raise ConfigError(
            f"{trained.source} tells {trained.weights.spec.num_classes} classes apart, the data has "
            f"{len(graded.class_names)}; its features can be graded with --protocol=knn or linear"
        )
    if difference := class_rows.mismatch(trained.weights.class_names, graded.class_names):
        console.say(f"warning: the head of {trained.source} is graded, but {difference}")
    logits, view = features.network(trained).logits, features.device_view(config.data)
    temperatures = dict.fromkeys((1.0, trained.weights.preprocessing.temperature))

    def step(params: Any, batch: Any) -> Metrics:
        found = logits(params, see(batch["image"], ImageDraws(), view), None)
        by_temperature = {t: scores.all_sums(found / t, batch["label"], batch["mask"]) for t in temperatures}
        return {f"{t}/{name}": value for t, of in by_temperature.items() for name, value in of.items()}

    mesh = sharding.make_mesh(config.mesh.fsdp)
    compiled = jax.jit(step, out_shardings=sharding.replicated(mesh))
    batches = batches_of(graded.images, config, label=CLASS, num_devices=mesh.size)
    tracked = console.track(batches, f"grading {trained.source}, batches", total=len(batches))
    found = sums(compiled, features.spread(trained.weights.params, mesh), tracked, mesh=mesh)
    return {
        t: {name.removeprefix(f"{t}/"): value for name, value in found.items() if name.startswith(f"{t}/")}
        for t in temperatures
    }


def _grade_probe(trained: Trained, config: Config, graded: Graded, protocol: str) -> dict[float, Metrics]:
    if jax.process_count() > 1:
        raise ConfigError(f"--protocol={protocol} runs in one process, this is one of {jax.process_count()}")
    if graded.labeled is None:
        raise ConfigError(f"--protocol={protocol} is fitted on labeled images, and {trained.source} names none")
    extract = features.extractor(trained, config)
    labeled, labels = extract(graded.labeled)
    graded_features, expected = extract(graded.images)
    fit = probes.knn_logits if protocol == "knn" else probes.linear_logits
    with console.working("fitting the probe"):
        logits = fit(labeled, labels, graded_features, num_classes=len(graded.class_names))
    found = scores.all_sums(jnp.asarray(logits, jnp.float32), jnp.asarray(expected), jnp.ones(len(expected)))
    return {1.0: {name: metrics.Mean(np.asarray(m.total), np.asarray(m.count)) for name, m in found.items()}}


def seen_as(data: DataConfig, view: Preprocessing) -> DataConfig:
    """The same images, seen as the weights expect them."""
    return dataclasses.replace(
        data,
        image_size=view.image_size,
        eval_crop_fraction=view.crop_fraction,
        interpolation=view.interpolation,
        mean=view.mean,
        std=view.std,
        exif_rotation=view.exif_rotation,
    )
