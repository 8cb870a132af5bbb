"""Grade every set of weights of a run, a checkpoint or an import on one split."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import init_from, reading, warm_start, workdir
from semivit_jax.config import Config, ConfigError, DataConfig
from semivit_jax.data.dataset import ROLES, TaskData, open_as_begun, open_split, open_task
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.files import Path
from semivit_jax.inference import features, probes
from semivit_jax.inference.trained import CLASS, Trained, check_classes, find_checkpoint, load_trained, trees_of
from semivit_jax.ops import metrics, scores
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.scores import Scores
from semivit_jax.recipes import stored
from semivit_jax.stages import label_free
from semivit_jax.stages.stage import ImageDraws, see
from semivit_jax.training import sharding
from semivit_jax.training.evaluate import batches_of, sums
from semivit_jax.training.process import prepare_process
from semivit_jax.weights.folder import is_import
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.words import counted, few

PROTOCOLS = {
    "head": "the classifier's own head",
    "knn": (
        f"k-nearest neighbours on frozen features: the {probes.NEIGHBOURS} labeled images of highest cosine "
        f"similarity, or all where there are fewer, vote with exp(similarity / {probes.TEMPERATURE})"
    ),
    "linear": "logistic regression (scikit-learn, C = 1) on standardised frozen features of the labeled images",
}
FITTED_ON = ("labeled", "train")  # splits that hold the images a probe is fitted on


@dataclasses.dataclass(frozen=True)
class Grades:
    """What was graded, how, and the scores per set of weights ('params', 'ema_params')."""

    source: str
    dataset: str
    split: str
    protocol: str
    class_names: tuple[str, ...]
    found: dict[str, Scores]


def grade(
    folder: Path,
    config: Config | None,
    *,
    split: str,
    protocol: str,
    kept: str,
    stage: str | None,
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
    first = load_trained(source, kept=kept, tree="params", stage=None)
    config = dataclasses.replace(config, data=_seen_as(config.data, first.weights.preprocessing))
    run = init_from.run_of(source)
    if own and run is not None:
        task = open_as_begun(config, workdir=run, label_free=label_free())
        images = open_split(config, task, split)
    else:
        task = open_task(config, workdir=None, label_free=label_free())
        images = _unseen(open_split(config, task, split), source, config, split)
    grade_one = _grade_head if protocol == "head" else _grade_probe
    found = {}
    for tree in trees_of(source):
        trained = load_trained(source, kept=kept, tree=tree, stage=None)
        found[tree] = grade_one(trained, Set(config, task, images), protocol)
    shown = split or config.data.eval_split or "validation"
    return Grades(str(source), config.data.dataset, shown, PROTOCOLS[protocol], task.class_names, found)


def _unseen(images: ImageSet, source: Path, config: Config, split: str) -> ImageSet:
    """The images without those that the weights were trained on with a label, unless these were asked for."""
    seen = init_from.seen(source, label_free())
    if seen is None or split in FITTED_ON:
        return images
    inside = config.data.train_split if split in ROLES else split
    positions = seen.positions(images, config.data, inside or config.data.eval_split or config.data.train_split)
    if not len(positions):
        return images
    console.say(
        f"warning: {counted(len(positions), 'image')} left out, which {seen.source} was trained on with a label "
        f"({few([images.names[int(i)] for i in positions])})"
    )
    return images.subset(np.setdiff1d(np.arange(len(images)), positions))


def _own_config(folder: Path, source: Path) -> Config:
    """Of a workdir, whose paths may have changed since the checkpoint was written, or else of the checkpoint."""
    if is_import(folder):
        raise ConfigError(f"{folder} is an import and names no data: give --config=FILE")
    if (folder / "config.json").exists():
        return workdir.load_config(folder)
    return stored.check_stored(reading.read_facts(source)["config"])


class Set(NamedTuple):
    """Images to grade, of a task, and the config that both were opened with."""

    config: Config
    task: TaskData
    images: ImageSet


def _grade_head(trained: Trained, graded: Set, protocol: str) -> Scores:
    del protocol
    if not trained.weights.spec.num_classes:
        raise ConfigError(f"{trained.source} has no classifier; give --protocol=knn or --protocol=linear")
    check_classes(trained)
    if trained.weights.spec.num_classes != len(graded.task.class_names):
        raise ConfigError(
            f"{trained.source} tells {trained.weights.spec.num_classes} classes apart, the data has "
            f"{len(graded.task.class_names)}; its features can be graded with --protocol=knn or linear"
        )
    if difference := warm_start.class_mismatch(trained.weights.class_names, graded.task.class_names):
        console.say(f"warning: the head of {trained.source} is graded, but {difference}")
    logits, view = features.network(trained).logits, features.device_view(graded.config.data)

    def step(params: Any, batch: Any) -> Metrics:
        found = logits(params, see(batch["image"], ImageDraws(), view), None)
        return {
            **scores.base_sums(found, batch["label"], batch["mask"]),
            **scores.detail_sums(found, batch["label"], batch["mask"]),
        }

    mesh = sharding.make_mesh(graded.config.mesh.fsdp)
    compiled = jax.jit(step, out_shardings=sharding.replicated(mesh))
    batches = batches_of(graded.images, graded.config, label=CLASS, num_devices=mesh.size)
    return scores.scores(sums(compiled, features.spread(trained.weights.params, mesh), batches, mesh=mesh))


def _grade_probe(trained: Trained, graded: Set, protocol: str) -> Scores:
    if jax.process_count() > 1:
        raise ConfigError(f"--protocol={protocol} runs in one process, this is one of {jax.process_count()}")
    task, extract = graded.task, features.extractor(trained, graded.config)
    labeled, labels = extract(task.train.subset(task.split.labeled))
    graded_features, expected = extract(graded.images)
    fit = probes.knn_logits if protocol == "knn" else probes.linear_logits
    logits = fit(labeled, labels, graded_features, num_classes=len(task.class_names))
    answers = (jnp.asarray(logits, jnp.float32), jnp.asarray(expected), jnp.ones(len(expected)))
    found = {**scores.base_sums(*answers), **scores.detail_sums(*answers)}
    return scores.scores({name: metrics.Mean(np.asarray(m.total), np.asarray(m.count)) for name, m in found.items()})


def _seen_as(data: DataConfig, view: Preprocessing) -> DataConfig:
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
