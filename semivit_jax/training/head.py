"""Probe the starting weights before the first stage with labels, and start its head from what was fitted.

Fine-tuning from a random head distorts features that are good already, and may end below a linear classifier on them;
from a fitted head it does so less (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution": LP-FT).
"""

import dataclasses
import time
from typing import NamedTuple

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import reading
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.hosts import agreement
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.state import TrainState
from semivit_jax.training import linear_probe, probes, sharding, view_features
from semivit_jax.training.compiled import Compiled, compile_features
from semivit_jax.training.evaluate import batches_of, eval_rows
from semivit_jax.training.linear_probe import LinearProbe
from semivit_jax.training.setup import PyTree, Run
from semivit_jax.words import counted, few

GRADED = ("class", "acc1")  # kind of label and score of a stage whose head the probe can be


class Seen(NamedTuple):
    """What a network makes of a set of images: float32 [n, width], int [n]; those that cannot be read are left out."""

    features: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probed:
    """What is kept of a probe, in probe.json.

    Attributes:
      linear_acc1, knn_acc1: shares of the evaluation images that the linear classifier and k-NN get right.
      num_fitted, num_graded: labeled and evaluation images that could be read.
      penalty, temperature, folds: see `LinearProbe`.
      is_head: whether the stage's head starts from the linear classifier.
      seconds: that all of it took.
    """

    linear_acc1: float
    knn_acc1: float
    num_fitted: int
    num_graded: int
    penalty: float
    temperature: float
    folds: int
    is_head: bool
    seconds: float


def is_probed(run: Run, plan: Plan, params: PyTree) -> bool:
    """Whether a stage is the first of its run whose head tells classes apart, and the run starts from weights."""
    scored = [stage for stage in run.config.stages if STAGES[stage].score]
    graded = (plan.label, STAGES[plan.stage].score) == GRADED
    return bool(run.config.init_from) and graded and plan.stage == scored[0] and "head.kernel" in reading.flat(params)


def start_head(run: Run, compiled: Compiled, state: TrainState, *, own_head: bool) -> tuple[TrainState, float]:
    """Fits k-NN and a linear classifier on frozen features, tells and keeps how right they are, and takes the latter.

    Features are those of the weights that predict: of the moving average, where the stage has one. The first host fits,
    and all get its arrays. Nothing is drawn that the seed does not decide, so a start that is repeated before the first
    checkpoint finds the same head.

    Args:
      run: of the stage.
      compiled: the stage.
      state: with the starting weights.
      own_head: whether a head for these classes came with them, which is kept.

    Returns:
      The state, and the share of the evaluation images that its new head gets right; 0 where the head stays.
    """
    plan, params = compiled.plan, state.params if state.ema_params is None else state.ema_params
    if not is_probed(run, plan, params):
        return state, 0.0
    began, (width, num_classes) = time.monotonic(), params["head"]["kernel"].shape
    labels = run.task.train.labels[run.task.split.labeled]
    chosen = linear_probe.choose(labels, num_classes=num_classes, width=width, seed=run.config.seed)
    if not len(chosen):
        console.say(
            f"{plan.stage}: no probe on the starting weights: {num_classes:,} classes would take too long to fit"
        )
        return state, 0.0
    sets = (run.task.train.subset(run.task.split.labeled[chosen]), run.task.eval)
    kept = _see_kept(run, compiled, state, sets) if run.config.data.cache_features else None
    with console.working(f"{plan.stage}: probing the starting weights"):
        whole = params if state.frozen is None else compiled.whole(params, state.frozen)
        fitted_on, graded = kept or _see(run, compiled, whole, sets)
        if len(np.unique(fitted_on.labels)) < 2:
            console.say(f"{plan.stage}: no probe on the starting weights: the labeled images are of one class")
            return state, 0.0
        probe, right = _fit(run, fitted_on, graded, num_classes)
    found = Probed(
        linear_acc1=float(right[0]),
        knn_acc1=float(right[1]),
        num_fitted=len(fitted_on.labels),
        num_graded=len(graded.labels),
        penalty=probe.penalty,
        temperature=probe.temperature,
        folds=probe.folds,
        is_head=run.config.model.head_init == "probe" and not own_head,
        seconds=time.monotonic() - began,
    )
    agreement.on_first_host(lambda: write_json(_path(run.workdir, plan.stage), dataclasses.asdict(found)))
    console.say(f"{plan.stage}: {_told(run, found, fitted_on)}; {_head_told(found, own_head=own_head)}")
    return (_with_head(state, probe), found.linear_acc1) if found.is_head else (state, 0.0)


def found_by_probe(workdir: Path, stages: tuple[str, ...]) -> Probed | None:
    """What `start_head` kept of a run; None where it fitted nothing."""
    paths = [path for stage in stages if (path := _path(workdir, stage)).exists()]
    return Probed(**read_json(paths[0])) if paths else None


def _path(workdir: Path, stage: str) -> Path:
    return workdir / stage / "probe.json"


def _see(run: Run, compiled: Compiled, params: PyTree, sets: tuple[ImageSet, ...]) -> list[Seen]:
    """Every host has all rows, in one order."""
    step, mesh = compile_features(run.config, compiled, run.mesh, params), run.mesh
    rows = eval_rows(run.config, max(map(len, sets)), mesh.size)  # of all sets, so that one program does
    found = []
    for images in sets:
        batches = batches_of(images, run.config, label=compiled.plan.label, num_devices=mesh.size, rows=rows)
        parts = [jax.device_get(step(params, sharding.put(b, sharding.eval_batch(mesh)))) for b in batches]
        features, labels, mask = (np.concatenate(leaf) for leaf in zip(*parts, strict=True))
        found.append(Seen(features[mask > 0], labels[mask > 0]))
    return found


def _see_kept(run: Run, compiled: Compiled, state: TrainState, sets: tuple[ImageSet, ...]) -> list[Seen]:
    """The same, of features that are kept."""
    backbone = view_features.backbone_of(run, compiled, state)
    found = []
    for images in sets:
        kept = view_features.table(backbone, view_features.EVALUATION, images, view_features.everything(images))
        good = np.flatnonzero(kept.row_of >= 0)
        found.append(Seen(kept.features[kept.row_of[good], 0], images.labels[good]))
    return found


def _fit(run: Run, fitted_on: Seen, graded: Seen, num_classes: int) -> tuple[LinearProbe, np.ndarray]:
    """The linear classifier, and the shares that it and k-NN get right, as the first host finds them."""

    def fit() -> tuple[LinearProbe, np.ndarray]:
        width = fitted_on.features.shape[1]
        if not run.first_host:
            kernel, bias = np.zeros((width, num_classes), np.float32), np.zeros(num_classes, np.float32)
            return LinearProbe(kernel, bias, 0.0, 0.0, 0), np.zeros(2)
        probe = linear_probe.fit(fitted_on.features, fitted_on.labels, num_classes=num_classes)
        knn = probes.knn(fitted_on.features, fitted_on.labels, num_classes=num_classes)(graded.features)
        answers = (probe.logits(graded.features), knn)
        return probe, np.array([np.mean(logits.argmax(axis=1) == graded.labels) for logits in answers])

    probe, right = agreement.together(fit, errors=(ValueError,))
    numbers = np.array([*right, probe.penalty, probe.temperature, probe.folds])
    kernel, bias, numbers = agreement.arrays_from_first_host((probe.kernel, probe.bias, numbers))
    return LinearProbe(kernel, bias, float(numbers[2]), float(numbers[3]), int(numbers[4])), numbers[:2]


def _with_head(state: TrainState, probe: LinearProbe) -> TrainState:
    """The state with the probe as its head, in the moving average too."""

    def put(params: PyTree) -> PyTree:
        old = params["head"]
        arrays = {"kernel": probe.kernel, "bias": probe.bias}
        placed = {name: jax.device_put(a.astype(old[name].dtype), old[name].sharding) for name, a in arrays.items()}
        return {**params, "head": placed}

    averaged = None if state.ema_params is None else put(state.ema_params)
    return dataclasses.replace(state, params=put(state.params), ema_params=averaged)


def _told(run: Run, found: Probed, fitted_on: Seen) -> str:
    """How right the probe is, of what, and how it was fitted."""
    kind = "validation" if run.task.evaluates_on_validation else run.config.data.eval_split
    chosen = f"C {found.penalty:g} and temperature {found.temperature:.2g}"
    how = f"by {found.folds}-fold cross-validation" if found.folds else "unchecked: no class has two labeled images"
    absent = [name for number, name in enumerate(run.task.class_names) if number not in fitted_on.labels]
    without = f"; no labeled image of {few(absent)}" if absent else ""
    return (
        f"probe on the starting weights: logistic regression {100 * found.linear_acc1:.1f} %, k-NN "
        f"{100 * found.knn_acc1:.1f} % of {counted(found.num_graded, f'{kind} image')}, fitted on "
        f"{counted(found.num_fitted, 'labeled image')} in {found.seconds:.0f} s ({chosen}, {how}{without})"
    )


def _head_told(found: Probed, *, own_head: bool) -> str:
    if found.is_head:
        return "the head starts from the regression"
    return "the head that came along is kept" if own_head else "the head starts at random (config.model.head_init)"
