"""`semivit eval`: grades every set of weights of a run, a checkpoint or an import on one split."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import reading, warm_start, workdir
from semivit_jax.config import Config, ConfigError, DataConfig
from semivit_jax.data.dataset import TaskData, open_split, open_task
from semivit_jax.data.eval_pipeline import EvalBatches, eval_batches
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference import probes
from semivit_jax.inference.trained import Trained, backbone, find_checkpoint, load_trained, trees_of
from semivit_jax.models import families
from semivit_jax.models.families import Network
from semivit_jax.models.spec import PLAIN
from semivit_jax.ops import metrics, scores
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.scores import Scores
from semivit_jax.recipes import stored
from semivit_jax.stages.stage import ImageDraws, ViewSpec, see
from semivit_jax.training import sharding
from semivit_jax.training.evaluate import sums
from semivit_jax.training.run import prepare_process
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
FITTED_ON = ("labeled", "train")  # splits that hold the images a probe is fitted on


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was graded, how, and the scores per set of weights ('params', 'ema_params')."""

    source: str
    dataset: str
    split: str
    protocol: str
    class_names: tuple[str, ...]
    found: dict[str, Scores]


def evaluate(
    folder: Path,
    config: Config | None,
    *,
    split: str,
    protocol: str,
    kept: str,
    stage: str | None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Grades params and, where they exist, ema_params.

    Args:
      folder: workdir, checkpoint, or import.
      config: names the data; None takes the run's own, which imports do not have. Size and normalisation of the
        images are always those of the weights.
      split: see `dataset.open_split`.
      protocol: a key of PROTOCOLS.
      kept: of a workdir, "latest" or "best".
      stage: of a workdir; None is the latest.
      notes: lines to print first, once it is known which host prints.

    Raises:
      ConfigError: no data named, or the protocol cannot grade these weights on this split.
    """
    source = folder if is_import(folder) else find_checkpoint(folder, kept=kept, stage=stage)
    if config is None:
        config = _own_config(folder, source)
    if protocol != "head" and split in FITTED_ON:
        raise ConfigError(f"--split={split} holds the images that --protocol={protocol} is fitted on; take another")
    prepare_process(config)  # before the weights are read, which touches a device
    for line in notes:
        console.say(line)
    first = load_trained(source, kept=kept, tree="params", stage=None)
    config = dataclasses.replace(config, data=_seen_as(config.data, first.view.preprocessing))
    task = open_task(config, workdir=None)
    images = open_split(config, task, split)
    grade = _grade_head if protocol == "head" else _grade_probe
    found = {}
    for tree in trees_of(source):
        trained = load_trained(source, kept=kept, tree=tree, stage=None)
        found[tree] = grade(trained, Set(config, task, images), protocol)
    shown = split or config.data.eval_split or "validation"
    return Evaluation(str(source), config.data.dataset, shown, PROTOCOLS[protocol], task.class_names, found)


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
    if not trained.spec.num_classes:
        raise ConfigError(f"{trained.source} has no classifier; give --protocol=knn or --protocol=linear")
    if trained.spec.num_classes != len(graded.task.class_names):
        raise ConfigError(
            f"{trained.source} tells {trained.spec.num_classes} classes apart, the data has "
            f"{len(graded.task.class_names)}; its features can be graded with --protocol=knn or linear"
        )
    if difference := warm_start.class_mismatch(trained.class_names, graded.task.class_names):
        console.say(f"warning: the head of {trained.source} is graded, but {difference}")
    logits, spec = _network(trained).logits, _spec(graded.config.data)

    def step(params: Any, batch: Any) -> Metrics:
        found = logits(params, see(batch["image"], ImageDraws(), spec), None)
        return {
            **scores.base_sums(found, batch["label"], batch["mask"]),
            **scores.detail_sums(found, batch["label"], batch["mask"]),
        }

    mesh = sharding.make_mesh(graded.config.mesh.fsdp)
    compiled = jax.jit(step, out_shardings=sharding.replicated(mesh))
    batches = _batches(graded.images, graded.config, mesh.size)
    return scores.scores(sums(compiled, _spread(trained.params, mesh), batches, mesh=mesh))


def _grade_probe(trained: Trained, graded: Set, protocol: str) -> Scores:
    if jax.process_count() > 1:
        raise ConfigError(f"--protocol={protocol} runs in one process, this is one of {jax.process_count()}")
    trained, task = backbone(trained), graded.task
    extract = _extractor(trained, graded.config)
    labeled, labels = extract(task.train.subset(task.split.labeled))
    features, expected = extract(graded.images)
    fit = probes.knn_logits if protocol == "knn" else probes.linear_logits
    logits = fit(labeled, labels, features, num_classes=len(task.class_names))
    answers = (jnp.asarray(logits, jnp.float32), jnp.asarray(expected), jnp.ones(len(expected)))
    found = {**scores.base_sums(*answers), **scores.detail_sums(*answers)}
    return scores.scores({name: metrics.Mean(np.asarray(m.total), np.asarray(m.count)) for name, m in found.items()})


def _extractor(trained: Trained, config: Config) -> Callable[[ImageSet], tuple[np.ndarray, np.ndarray]]:
    """images -> (float32 features, labels), without images that cannot be read."""
    features, spec = _network(trained).features, _spec(config.data)
    mesh = sharding.make_mesh(config.mesh.fsdp)
    params, rows = _spread(trained.params, mesh), sharding.eval_batch(mesh)
    compiled = jax.jit(lambda p, images: features(p, see(images, ImageDraws(), spec)).astype(jnp.float32))

    def extract(images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        found, labels = [], []
        for batch in _batches(images, config, mesh.size):
            real = batch["mask"] > 0
            found.append(np.asarray(compiled(params, sharding.put(batch["image"], rows)))[real])
            labels.append(batch["label"][real])
        return np.concatenate(found), np.concatenate(labels)

    return extract


def _network(trained: Trained) -> Network:
    """A run computes as it trained, an import in float32."""
    spec, config = trained.spec, trained.config
    how = PLAIN if config is None else families.compute(config.model, spec, backend=jax.default_backend())
    return families.network(spec, how, 0.0)


def _batches(images: ImageSet, config: Config, num_devices: int) -> EvalBatches:
    """The batch is rounded up to fill every device."""
    size = -(-config.train.eval_batch_size // num_devices) * num_devices
    return eval_batches(
        images,
        config.data,
        batch_size=size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _spread(params: Any, mesh: jax.sharding.Mesh) -> Any:
    # By way of the host: an array on one device cannot be spread over those of other processes.
    return jax.device_put(jax.device_get(params), sharding.state_shardings(mesh, params))


def _spec(data: DataConfig) -> ViewSpec:
    return ViewSpec(data.mean, data.std, data.image_size, None, 0.0, None)


def _seen_as(data: DataConfig, view: Preprocessing) -> DataConfig:
    """The same images, seen as the weights expect them."""
    return dataclasses.replace(
        data,
        image_size=view.image_size,
        eval_crop_fraction=view.crop_fraction,
        interpolation=view.interpolation,
        mean=view.mean,
        std=view.std,
    )
