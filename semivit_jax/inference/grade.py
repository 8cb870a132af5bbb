"""Grade every set of weights of a run, a checkpoint or an import on one split."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import class_rows, init_from, reading, workdir
from semivit_jax.config import Config, ConfigError, DataConfig
from semivit_jax.data.opening import Photos
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.files import Path
from semivit_jax.inference import features, grades
from semivit_jax.inference.graded_images import FITTED_ON, Graded, of_config, of_photos, of_run
from semivit_jax.inference.grades import PROTOCOLS, Answers, Calibrated, Grades
from semivit_jax.inference.trained import CLASS, Trained, check_classes, find_checkpoint, load_trained, trees_of
from semivit_jax.ops import metrics, scores
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.scores import Scores
from semivit_jax.recipes import stored
from semivit_jax.stages.stage import ImageDraws, see
from semivit_jax.training import evaluate, probes, sharding
from semivit_jax.training.process import prepare_process
from semivit_jax.weights.folder import is_import
from semivit_jax.weights.preprocessing import Preprocessing


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
    found, answers, calibrated = {}, {}, {}
    for tree in trees_of(source):
        with console.working("reading the weights"):
            trained = load_trained(source, kept=kept, tree=tree, stage=None)
        by_temperature, answers[tree] = grade_one(trained, config, graded, protocol)
        found[tree] = by_temperature.pop(1.0)
        for temperature, after in by_temperature.items():
            calibrated[tree] = Calibrated(temperature, after)
    return Grades(
        source=str(source),
        dataset=graded.dataset,
        split=graded.split,
        protocol=PROTOCOLS[protocol],
        class_names=graded.class_names,
        found=found,
        images=graded.images,
        answers=answers,
        calibrated=calibrated,
        labeled=_labeled_per_class(graded),
    )


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


_MOST_LOGITS = 2**24  # of a probe's answers at a time: 128 MB, whatever the number of classes

Found = tuple[dict[float, Scores], Answers]
"""Scores by temperature, of which 1 is always there, and the answers at the temperature of the weights."""


def _grade_head(trained: Trained, config: Config, graded: Graded, protocol: str) -> Found:
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
    own = trained.weights.preprocessing.temperature
    temperatures = list(dict.fromkeys((1.0, own)))

    def step(params: Any, batch: Any) -> tuple[Metrics, dict[str, jax.Array]]:
        found = logits(params, see(batch["image"], ImageDraws(), view), None)
        by_temperature = {t: scores.all_sums(found / t, batch["label"], batch["mask"]) for t in temperatures}
        added = {f"{t}/{name}": value for t, of in by_temperature.items() for name, value in of.items()}
        return added, {**grades.of_batch(found, temperature=own), "label": batch["label"], "mask": batch["mask"]}

    mesh = sharding.make_mesh(config.mesh.fsdp)
    compiled = jax.jit(step, out_shardings=sharding.replicated(mesh))
    batches = evaluate.batches_of(graded.images, config, label=CLASS, num_devices=mesh.size)
    tracked = console.track(batches, f"grading {trained.source}, batches", total=len(batches))
    each: list[dict[str, Any]] = []

    def keep_each(params: Any, batch: Any) -> Metrics:
        added, of_images = compiled(params, batch)
        each.append(jax.device_get(of_images))
        return added

    found = evaluate.sums(keep_each, features.spread(trained.weights.params, mesh), tracked, mesh=mesh)

    answers = grades.joined(each)
    confusion = answers.confusion(len(graded.class_names))

    def at(temperature: float) -> Scores:
        start = f"{temperature}/"
        return scores.scores({k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}, confusion)

    return {t: at(t) for t in temperatures}, answers


def _grade_probe(trained: Trained, config: Config, graded: Graded, protocol: str) -> Found:
    if jax.process_count() > 1:
        raise ConfigError(f"--protocol={protocol} runs in one process, this is one of {jax.process_count()}")
    if graded.labeled is None:
        raise ConfigError(f"--protocol={protocol} is fitted on labeled images, and {trained.source} names none")
    extract = features.extractor(trained, config)
    labeled, labels = extract(graded.labeled)
    # The place of an image as its label: what cannot be read is left out.
    numbered = ImageSet(graded.images.records, graded.images.names, np.arange(len(graded.images), dtype=np.int32))
    graded_features, places = extract(numbered)
    expected = graded.images.labels[places]
    fit, num_classes = probes.knn if protocol == "knn" else probes.linear, len(graded.class_names)
    with console.working("fitting the probe"):
        predict = fit(labeled, labels, num_classes=num_classes)
        total, each = None, []
        for start in range(0, len(places), rows := max(1, _MOST_LOGITS // num_classes)):
            label = jnp.asarray(expected[start : start + rows])
            logits = jnp.asarray(predict(graded_features[start : start + rows]), jnp.float32)
            found = evaluate.on_host(scores.all_sums(logits, label, jnp.ones(len(label))))
            total = found if total is None else metrics.add(total, found)
            each.append(jax.device_get(grades.of_batch(logits)))
    if total is None:
        raise ConfigError(f"none of the images that --protocol={protocol} should grade can be read")
    first = {name: np.concatenate([one[name] for one in each]) for name in ("guesses", "probs")}
    answers = Answers(places, expected, first["guesses"], first["probs"])
    return {1.0: scores.scores(total, answers.confusion(num_classes))}, answers


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
