"""Look at a run through its weights and images: answers, features, and what follows from them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import init_from, workdir
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import Config, ConfigError
from semivit_jax.data.bad_records import TooManyBadRecords
from semivit_jax.data.dataset import TaskData, open_as_begun
from semivit_jax.data.pipeline import train_batches
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.inference.grade import grade
from semivit_jax.inference.grades import Grades
from semivit_jax.inference.trained import Trained, load_trained
from semivit_jax.plan import Plan
from semivit_jax.recipes.planning import fit_batch, make_plan
from semivit_jax.report import sample as sampling
from semivit_jax.report import space, suspects, twins
from semivit_jax.report.facts import RunFacts
from semivit_jax.report.sample import GRADED, LABELED, UNLABELED, Seen
from semivit_jax.report.space import Layout
from semivit_jax.report.suspects import Judged
from semivit_jax.report.twins import Pair
from semivit_jax.stages import STAGES, label_free
from semivit_jax.stages.pictures import PICTURES, Panel
from semivit_jax.training import head, linear_probe, probes
from semivit_jax.training.compiled import stage_key
from semivit_jax.training.head import Probed

EXPECTED = (
    ConfigError, CheckpointError, DatasetError, SplitError, TooManyBadRecords, OSError, ValueError,
)  # fmt: skip
SHOWN = 10  # images that are shown on their way through a stage
PROBES = "k-NN and linear probe"  # what is left out where there are none
_Found = TypeVar("_Found")


@dataclasses.dataclass
class Looked:
    """What was found; None, or empty, where something is not there, and `absent` says why.

    Attributes:
      task: the images of the run.
      grades: of the latest stage that is graded.
      before: of the one before it, on the same images.
      probed: k-NN and a linear probe on weights that have seen no label, and `probed_on` what these are.
      panels: stage -> what it makes of images.
      drawn: images that were looked at, without features.
      sample: the same with features of the newest weights.
      judged: labels that were judged, by role.
      twins: (pair, its second image's role).
      layout: of the features of `sample`, in the order LABELED, GRADED, UNLABELED.
      absent: what is missing -> the reason, in a line.
    """

    task: TaskData | None = None
    grades: Grades | None = None
    before: Grades | None = None
    probed: Probed | None = None
    probed_on: str = ""
    panels: dict[str, tuple[Panel, ...]] = dataclasses.field(default_factory=dict)
    drawn: dict[str, Seen] = dataclasses.field(default_factory=dict)
    sample: dict[str, Seen] = dataclasses.field(default_factory=dict)
    judged: dict[str, Judged] = dataclasses.field(default_factory=dict)
    twins: list[tuple[Pair, str]] = dataclasses.field(default_factory=list)
    layout: Layout | None = None
    absent: dict[str, str] = dataclasses.field(default_factory=dict)

    def attempt(self, what: str, action: Callable[[], _Found]) -> _Found | None:
        """The result; where it cannot be had, None, and the reason is kept."""
        try:
            return action()
        except EXPECTED as error:
            self.absent[what] = (str(error) or type(error).__name__).splitlines()[0]
            return None


def at(run: RunFacts, *, most: int) -> Looked:
    """Everything that weights and images tell of a run.

    Args:
      run: what it has written.
      most: images of each role that features are computed of.
    """
    looked = Looked()
    looked.task = looked.attempt(
        "images", lambda: open_as_begun(run.config, workdir=run.folder, label_free=label_free())
    )
    stages, graded = _begun(run), _with_answers(run)
    if graded:
        looked.grades = looked.attempt("answers", lambda: _graded(run, graded[-1]))
    if len(graded) > 1 and looked.grades is not None:
        looked.before = looked.attempt("answers of the stage before", lambda: _graded(run, graded[-2]))
    if looked.task is None or not stages:
        return looked
    task = looked.task
    for name in stages:
        if name in PICTURES:
            panels = looked.attempt(f"pictures of {name}", lambda name=name: _panels(run, task, name))
            looked.panels |= {name: panels} if panels else {}
    drawn = looked.drawn = sampling.draw(task, most=most, seed=run.config.seed)
    if not drawn:
        return looked
    newest = looked.attempt("features", lambda: _trained(run, stages[-1]))
    if newest is not None:
        looked.sample = looked.attempt("features", lambda: sampling.with_features(drawn, newest, run.config)) or {}
    _judge(looked, run, _before_labels(looked, run, drawn, stages))
    looked.twins = looked.attempt("near duplicates", lambda: _twins(drawn, run)) or []
    if looked.sample:
        with console.working("laying out features"):
            looked.layout = looked.attempt("map", lambda: _layout(looked.sample, run.config.seed))
    return looked


def latest_graded(run: RunFacts) -> Grades | None:
    """Answers of the latest stage of a run that is graded by its share of right answers; None where there is none."""
    graded = _with_answers(run)
    return _graded(run, graded[-1]) if graded else None


def _begun(run: RunFacts) -> list[str]:
    """The stages that have a checkpoint."""
    return [s.name for s in run.stages if workdir.has_checkpoint(run.folder / s.name)]


def _with_answers(run: RunFacts) -> list[str]:
    """Those of them that tell classes apart."""
    return [name for name in _begun(run) if STAGES[name].score == "acc1"]


def _graded(run: RunFacts, stage: str) -> Grades:
    return grade(run.folder, None, split="", protocol="head", kept="latest", stage=stage)


def _trained(run: RunFacts, stage: str) -> Trained:
    with console.working("reading the weights"):
        return load_trained(run.folder, kept="latest", tree=None, stage=stage)


def _before_labels(looked: Looked, run: RunFacts, drawn: dict[str, Seen], stages: list[str]) -> dict[str, Seen]:
    """Features of weights that have seen none of the labels, and what simple classifiers make of them; {} without."""
    looked.probed, looked.probed_on = head.found_by_probe(run.folder, run.config.stages), "the starting weights"
    pre_trained, source = [name for name in stages if STAGES[name].pre_training], run.config.init_from
    labeled = {role: drawn[role] for role in (LABELED, GRADED) if role in drawn}
    if not labeled or not (pre_trained or source):
        if looked.probed is None and run.scored():
            looked.absent[PROBES] = "the run began with random weights, whose features tell nothing"
        return {}

    def features() -> dict[str, Seen]:
        trained = _trained(run, pre_trained[-1]) if pre_trained else _starting(source)
        return sampling.with_features(labeled, trained, run.config)

    found = looked.attempt("features before the first label", features) or {}
    if looked.probed is None and set(found) == {LABELED, GRADED} and run.scored():
        looked.probed_on = "the pre-trained weights" if pre_trained else "the starting weights"
        looked.probed = looked.attempt(PROBES, lambda: _probe(found, len(run.class_names), run.config.seed))
    return found


def _starting(source: str) -> Trained:
    """The weights that a run began with, if they are still there."""
    return load_trained(init_from.find(source), kept="latest", tree=None, stage=None)


def _probe(found: dict[str, Seen], num_classes: int, seed: int) -> Probed:
    """As a run does that starts from weights, before its first stage with labels.

    Raises:
      ValueError: the labels allow no fit; says why.
    """
    fitted, graded = found[LABELED], found[GRADED]
    width = fitted.features.shape[1]
    chosen = linear_probe.choose(fitted.labels, num_classes=num_classes, width=width, seed=seed)
    features, labels = fitted.features[chosen], fitted.labels[chosen]
    if not len(chosen):
        raise ValueError(f"a fit to {num_classes:,} classes would take too long")
    if len(np.unique(labels)) < 2:
        raise ValueError("the labeled images are of one class")
    with console.working("fitting the probes"):
        probe = linear_probe.fit(features, labels, num_classes=num_classes)
        knn = probes.knn(features, labels, num_classes=num_classes)(graded.features)
    linear, nearest = (
        float(np.mean(logits.argmax(axis=1) == graded.labels)) for logits in (probe.logits(graded.features), knn)
    )
    counts = {"num_fitted": len(labels), "num_graded": len(graded.labels)}
    chosen_by = {"penalty": probe.penalty, "temperature": probe.temperature, "folds": probe.folds}
    return Probed(linear_acc1=linear, knn_acc1=nearest, **counts, **chosen_by, is_head=False, seconds=0.0)


def _judge(looked: Looked, run: RunFacts, before: dict[str, Seen]) -> None:
    """Which labels are probably wrong: each is judged by features that have not been fitted to it.

    Those of labeled images by weights from before the first label, where there are any; those of evaluation images,
    which nothing learns from, by the newest weights, which know the classes best.
    """
    learned = bool(_with_answers(run))
    for role, by in ((LABELED, before or looked.sample), (GRADED, looked.sample)):
        if role in by:
            fitted = learned and role == LABELED and not before
            judge = partial(suspects.judge, by, role, seed=run.config.seed, is_fitted=fitted)
            with console.working(f"judging the labels of {role} images"):
                found = looked.attempt(f"labels of {role} images that look wrong", judge)
            looked.judged |= {role: found} if found else {}


def _twins(drawn: dict[str, Seen], run: RunFacts) -> list[tuple[Pair, str]]:
    """Evaluation images that have a twin among those that are learned from."""
    if GRADED not in drawn:
        return []
    data, found = run.config.data, []
    with console.working("comparing images"):
        graded = twins.thumbnails(drawn[GRADED].images, drawn[GRADED].places, data)
        for role in (LABELED, UNLABELED):
            if role in drawn:
                others = twins.thumbnails(drawn[role].images, drawn[role].places, data)
                found += [(pair, role) for pair in twins.pairs(graded, others, alike=twins.ALIKE)]
    return sorted(found, key=lambda one: -one[0].correlation)


def _layout(found: dict[str, Seen], seed: int) -> Layout:
    features, _, rows = sampling.joined(found, LABELED, GRADED, UNLABELED)
    return space.layout(features, np.array([role == LABELED for role, _ in rows]), seed=seed)


def _panels(run: RunFacts, task: TaskData, stage: str) -> tuple[Panel, ...]:
    """What a stage makes of a few of its images, with its newest weights."""
    config, plan = _few(run, task, stage)
    trained = _trained(run, stage)
    batches = train_batches(task, config.data, plan, seed=config.seed, position=0, process_index=0, process_count=1)
    try:
        batch = next(batches)
    finally:
        batches.close()
    with console.working(f"drawing views of {stage}"):
        panels = PICTURES[stage](config, plan, trained.weights.params, batch, stage_key(config, stage), jax.jit)
    return tuple(panel.first(SHOWN) for panel in panels)


def _few(run: RunFacts, task: TaskData, stage: str) -> tuple[Config, Plan]:
    """The config, and a plan with the smallest batch that holds as many images as are shown."""
    stored = run.stage(stage).plan
    # From pixels, also of a run that trained on kept features: there is nothing to see in these.
    pixels = dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, cache_features=0))
    config, _ = fit_batch(pixels, stage, task.counts, num_devices=1, stored=stored.get("batch_size"))
    plan = make_plan(config, stage, task.counts, num_devices=1, stored_group_size=stored.get("group_size"))
    per_row = max(stream.per_row for stream in plan.streams)
    rows = min(-(-SHOWN // per_row), plan.batch_size)
    group = 1 if plan.group_size == 1 else min(plan.group_size, rows + rows % 2)
    size = -(-rows // group) * group  # whole groups
    return config, dataclasses.replace(plan, batch_size=size, accum=1, recipe_accum=1, group_size=group)
