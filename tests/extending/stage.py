"""A stage of one's own: three yes-or-no questions about every digit, learned together and graded by macro F1.

Two lines make it a legal name of config.stages: STAGES["questions"] = SPEC and LABELS["questions"] = ANSWERS.
"""

import dataclasses
from typing import Annotated

import jax
import numpy as np
import optax

from semivit_jax.config import POSITIVE, SHARE, Config, ConfigError, Range, StageConfig
from semivit_jax.data.rows import LabelKind
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.models import families, tuning
from semivit_jax.models.spec import ModelSpec
from semivit_jax.ops import metrics
from semivit_jax.ops.losses import promote
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import mae, stage, supervised
from semivit_jax.stages.spec import AS_IT_IS, IMPORT, IMPORTED, Pass, StageSpec
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree, Stage, masks, see
from semivit_jax.stages.state import TrainState

YES = {"is it even?": (0, 2, 4, 6, 8), "is it above 4?": (5, 6, 7, 8, 9), "has it a loop?": (0, 6, 8, 9)}
TABLE = np.array([[digit in yes for yes in YES.values()] for digit in range(10)], np.int32)


def answers(images: ImageSet, positions: np.ndarray) -> np.ndarray:
    """1 for yes and 0 for no, int32 [n, questions]; -1 where the digit is not known."""
    digits = images.labels[positions]
    return np.where(digits[:, None] < 0, np.int32(-1), TABLE[digits])


ANSWERS = LabelKind(shape=lambda num_classes: (len(YES),), of=answers)


@dataclasses.dataclass(frozen=True)
class QuestionsConfig(StageConfig):
    """Keys of the stage, beside those that every stage has."""

    layer_decay: Annotated[float, Range(1e-6, 1.0)]
    ema_decay: Annotated[float, SHARE]  # 0 keeps no average
    label_smoothing: Annotated[float, Range(0.0, 0.999)]
    yes_weight: Annotated[float, POSITIVE]  # of a yes in the loss, where a no weighs 1


def check(section: QuestionsConfig) -> None:
    """Raises ConfigError where answers are smoothed and weighed: a smoothed one is neither yes nor no."""
    if section.label_smoothing and section.yes_weight != 1:
        raise ConfigError(f"config.questions.yes_weight is {section.yes_weight}; with label_smoothing it must be 1")


def model(config: Config, num_classes: int) -> ModelSpec:
    """A head with one output per question, however many classes there are."""
    del num_classes
    return families.describe(config.model, image_size=config.data.image_size, num_classes=len(YES))


def make(config: Config, plan: Plan, backend: str) -> Stage:
    """Sigmoid cross-entropy, every question by itself."""
    section, data = config.stage("questions"), config.data
    assert isinstance(section, QuestionsConfig)
    spec = model(config, plan.num_classes)
    network = tuning.network(config.model, spec, families.compute(config.model, spec, backend=backend), 0.0)
    optimizer = stage.make_optimizer(
        section,
        plan,
        weight_decays=network.weight_decays(section.weight_decay),
        lr_scales=network.lr_scales(section.layer_decay, 1.0),
    )
    fixed = DeviceView(data.mean, data.std, data.image_size, affine=None, erase_prob=0.0, drop_path_rates=None)
    view = fixed._replace(affine=data.affine_views.labeled if data.affine_views else None)

    def init(key: jax.Array) -> TrainState:
        return supervised.create_state(key, network, optimizer, keep_ema=section.ema_decay > 0)

    def micro_loss(params: PyTree, batch: PyTree, draws: ImageDraws):
        logits = promote(network.logits(params, see(batch["image"], draws, view), masks(draws)))
        yes, smoothing = batch["label"].astype(logits.dtype), section.label_smoothing
        losses = optax.sigmoid_binary_cross_entropy(logits, yes * (1 - smoothing) + smoothing / 2)
        loss = (losses * (1 + (section.yes_weight - 1) * yes)).mean()
        return loss, {"loss": metrics.of(loss), "said_yes": metrics.of((logits > 0).mean())}

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        draws = stage.stream_draws(key, "labeled", position=state.position, plan=plan, ratio=1, spec=view)
        return stage.update(
            state, batch, draws, micro_loss=micro_loss, optimizer=optimizer, ema_decay=section.ema_decay
        )

    def eval_step(params: PyTree, batch: PyTree) -> Metrics:
        logits = promote(network.logits(params, see(batch["image"], ImageDraws(), fixed), None))
        return counts(logits > 0, batch["label"] > 0, batch["mask"][:, None])

    return Stage("questions", init, train_step, eval_step, supervised.eval_params, grade, network.parting)


def counts(said: jax.Array, true: jax.Array, mask: jax.Array) -> Metrics:
    """Of every question: images with a yes said, with a true one, and with both; bool (batch, questions)."""
    return {
        name: Mean((yes * mask).sum(axis=0), 1.0)
        for name, yes in {"said": said, "true": true, "both": said & true}.items()
    }


def grade(sums: Metrics) -> dict[str, float]:
    """F1 = 2 both / (said + true) over all images, then its mean over the questions; no mean over images."""
    said, true, both = (np.asarray(sums[name].total) for name in ("said", "true", "both"))
    f1 = 2 * both / np.maximum(said + true, 1)
    return {"macro_f1": float(f1.mean()), "worst_f1": float(f1.min())}


SPEC = StageSpec(
    name="questions",
    section=QuestionsConfig,
    check=check,
    streams=lambda section: (Stream("labeled", "labeled", (("image", "labeled"),), label="questions"),),
    group_size=lambda section: 1,
    model=model,
    passes=lambda config, model: (Pass(tuning.cost(config.model, model), 1, backward=True),),
    make=make,
    starts_from={"mae": mae.TO_CLASSIFIER, "questions": AS_IT_IS, IMPORT: IMPORTED},
    score="macro_f1",
    summary={"macro_f1": "val/macro_f1", "ema_macro_f1": "val_ema/macro_f1", "said_yes": "last_epoch/said_yes"},
    rows=(("three questions, macro F1", "macro_f1"), ("three questions, macro F1, average", "ema_macro_f1")),
    shown={"train/said_yes": "said_yes {:.1%}"},
)
