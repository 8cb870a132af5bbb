"""Share between the stages with labels: keys, network, optimizer, draws and evaluation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, TypeVar

import jax
import numpy as np

from semivit_jax.config import (
    NOT_NEGATIVE,
    RUNTIME,
    SHARE,
    Config,
    ConfigError,
    Range,
    StageConfig,
)
from semivit_jax.models import families, tuning
from semivit_jax.models.families import Network
from semivit_jax.models.gather import on_every_device
from semivit_jax.models.spec import ModelSpec
from semivit_jax.ops import mixup, rng, scores
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.optim import Optimizer
from semivit_jax.plan import Plan
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages import state
from semivit_jax.stages.labeled_loss import LABELED_LOSSES, LabeledLoss, make_loss
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree, see
from semivit_jax.stages.state import TrainState


@dataclasses.dataclass(frozen=True)
class SupervisedConfig(StageConfig):
    """Keys of a stage that learns from labels."""

    # Factor of the learning rate from one block to the one before; 1 switches it off.
    layer_decay: Annotated[float, Range(1e-06, 1.0)]
    # Stochastic depth, share of images whose last block is skipped; linear in depth.
    drop_path_rate: Annotated[float, Range(0.0, 0.999)]
    ema_decay: Annotated[float, SHARE]  # weight of the old moving average in an update; 0 keeps no average
    label_smoothing: Annotated[float, Range(0.0, 0.999)]  # share of the target that all classes divide
    # Where classes have unequally many labels: 'plain' goes by the images, 'class_balanced' weighs them by their class,
    # 'logit_adjusted' takes the classes' frequencies out of the logits.
    labeled_loss: Annotated[str, LABELED_LOSSES]
    balance_beta: Annotated[
        float, Range(0.0, 0.999999)
    ]  # 'class_balanced': 0 weighs all alike, 1 inverse to the counts
    adjust_tau: Annotated[float, NOT_NEGATIVE]  # 'logit_adjusted': 1 aims at equally frequent classes, 0 is 'plain'
    balanced_order: bool  # labeled images are drawn so that every class comes equally often; those of rare ones repeat
    labeled_mixup: bool  # mix labeled images; off: label-smoothed cross-entropy
    mixup_alpha: Annotated[float, NOT_NEGATIVE]  # Beta parameter of mixup; 0 leaves cutmix alone
    cutmix_alpha: Annotated[float, NOT_NEGATIVE]  # Beta parameter of cutmix; 0 leaves mixup alone
    mixup_prob: Annotated[float, SHARE]  # share of groups that are mixed
    cutmix_switch_prob: Annotated[float, SHARE]  # of cutmix instead of mixup, when both alphas are positive
    mixup_group_size: int  # labeled images that mix with each other; even, at least 2
    erase_prob: Annotated[float, SHARE]  # share of images with a random rectangle of noise
    head_lr_scale: Annotated[float, NOT_NEGATIVE]  # extra factor for the last group: final norm and head
    # Published accuracy, printed beside the measured one; 0 when there is none.
    published_acc1: Annotated[float, Range(0.0, 100.0), RUNTIME]


Section = TypeVar("Section", bound=SupervisedConfig)


def check(section: SupervisedConfig, stage: str) -> None:
    """Raises ConfigError where mixup is on and cannot be drawn, or where its groups do not come out even."""
    path, micro_batch = f"config.{stage}", section.batch_size // section.accum
    if section.labeled_mixup and section.mixup_alpha <= 0 and section.cutmix_alpha <= 0:
        raise ConfigError(f"{path}.labeled_mixup is on: mixup_alpha or cutmix_alpha must be above 0")
    if section.mixup_group_size < 2 or section.mixup_group_size % 2:
        raise ConfigError(f"{path}.mixup_group_size is {section.mixup_group_size}; it must be even and at least 2")
    if section.labeled_mixup and micro_batch % 2:
        raise ConfigError(f"{path}: labeled_mixup needs an even micro-batch, got {micro_batch}")


def labeled_loss(section: SupervisedConfig, plan: Plan) -> LabeledLoss:
    """What the stage's labeled images cost."""
    per_class = plan.counts.per_class
    return make_loss(section.labeled_loss, per_class, beta=section.balance_beta, tau=section.adjust_tau)


def model(config: Config, num_classes: int) -> ModelSpec:
    """What a supervised stage trains: a classifier."""
    return families.describe(config.model, image_size=config.data.image_size, num_classes=num_classes)


def build_network(config: Config, section: SupervisedConfig, plan: Plan, *, backend: str) -> Network:
    """The stage's network, with its drop path and what of it is trained."""
    spec = model(config, plan.num_classes)
    compute = families.compute(config.model, spec, backend=backend)
    network = tuning.network(config.model, spec, compute, section.drop_path_rate)
    return tuning.on_features(network) if config.data.cache_features else network


def on_features(config: Config, section: Section) -> Section:
    """A stage's section as its step takes it: kept features were erased before, and cutmix finds no pixels to cut."""
    if not config.data.cache_features:
        return section
    return dataclasses.replace(section, erase_prob=0.0, cutmix_alpha=0.0, cutmix_switch_prob=0.0)


def create_state(
    key: jax.Array, network: Network, optimizer: Optimizer, *, keep_ema: bool, policy_state: PyTree = ()
) -> TrainState:
    """The state before the first update, of fresh weights."""
    trained, frozen = network.parting.split(network.init(rng.stream(key, "params")), key)
    return state.create(trained, optimizer, keep_ema=keep_ema, policy_state=policy_state, frozen=frozen)


def build_optimizer(section: SupervisedConfig, plan: Plan, network: Network) -> Optimizer:
    """AdamW with the model's layer-wise learning rates.

    Raises:
      ConfigError: the model has no groups for such a layer decay.
    """
    try:
        lr_scales = network.lr_scales(section.layer_decay, section.head_lr_scale)
    except ValueError as error:
        raise ConfigError(f"config.{plan.stage}.layer_decay: {error}") from error
    return stage_lib.make_optimizer(
        section, plan, weight_decays=network.weight_decays(section.weight_decay), lr_scales=lr_scales
    )


def sample_labeled_mix(
    key: jax.Array, position: jax.Array, section: SupervisedConfig, plan: Plan, image_size: int
) -> mixup.GroupDraw | None:
    """One draw per mixing group, leaves [accum, groups, ...]; None where labeled mixup is off."""
    if not section.labeled_mixup:
        return None
    draws = rng.grouped(
        lambda k: mixup.sample_group(k, image_size=image_size, **chances(section)._asdict()),
        rng.stream(key, "labeled_mix"),
        position=position,
        accum=plan.accum,
        groups=plan.groups,
    )
    return on_every_device(draws)


def chances(section: SupervisedConfig) -> mixup.Chances:
    """What the stage's mixups are drawn with."""
    return mixup.Chances(section.mixup_alpha, section.cutmix_alpha, section.mixup_prob, section.cutmix_switch_prob)


def view_of(config: Config, section: SupervisedConfig, row: str, drop_path_rates: np.ndarray | None) -> DeviceView:
    """What the device does to a view, a row of `data.images.views.VIEWS`: all but the weak one are erased.

    Args:
      config: of the run.
      section: of the stage.
      row: the view.
      drop_path_rates: with which its images pass the network; None for evaluation mode.
    """
    data = config.data
    affine = getattr(data.affine_views, row) if data.affine_views else None
    erase_prob = 0.0 if row == "weak" else section.erase_prob
    return DeviceView(data.mean, data.std, data.image_size, affine, erase_prob, drop_path_rates)


def make_eval_step(config: Config, network: Network):
    """Masked sums of loss, top-1 and top-5, and of top-1 by class, over a padded batch."""
    spec = DeviceView(config.data.mean, config.data.std, config.data.image_size, None, 0.0, None)

    def eval_step(params: PyTree, batch: PyTree) -> Metrics:
        logits = network.logits(params, see(batch["image"], ImageDraws(), spec), None)
        graded = (logits, batch["label"], batch["mask"])
        return {**scores.base_sums(*graded), **scores.class_sums(*graded)}

    return eval_step


def make_grade(plan: Plan) -> Callable[[Metrics], dict[str, float]]:
    """Sums of the evaluation step over all images -> what is told of them."""
    return functools.partial(scores.training_scores, labeled=plan.counts.per_class)


def eval_params(state: TrainState) -> dict[str, PyTree]:
    """The student, and its average where the stage keeps one."""
    averaged = {} if state.ema_params is None else {"val_ema": state.model(state.ema_params)}
    return {"val": state.model(state.params), **averaged}
