"""Fine-tune on the labeled images, supervised: stage 2."""

from typing import NamedTuple

import jax

from semivit_jax.config import Config
from semivit_jax.models import tuning
from semivit_jax.models.families import Network
from semivit_jax.ops import metrics, mixup
from semivit_jax.ops.losses import smoothed_target
from semivit_jax.ops.metrics import Metrics
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import mae, supervised
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages.spec import AS_IT_IS, IMPORT, IMPORTED, Pass, StageSpec
from semivit_jax.stages.stage import ImageDraws, PyTree, Stage, masks, see
from semivit_jax.stages.state import TrainState
from semivit_jax.stages.supervised import SupervisedConfig


class FinetuneDraws(NamedTuple):
    """image: of every labeled image; mix: leaves [accum, groups, ...], None without labeled mixup."""

    image: ImageDraws
    mix: mixup.GroupDraw | None


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (network, optimizer, update); `update(state, batch, draws)` takes those of tests too."""
    section = _section(config)
    network = supervised.build_network(config, section, plan, backend=backend)
    optimizer = supervised.build_optimizer(section, plan, network)
    spec = supervised.view_of(config, section, "labeled", network.drop_path_rates)
    labeled_loss = supervised.labeled_loss(section, plan)

    def micro_loss(params: PyTree, batch: PyTree, draws: FinetuneDraws):
        images = see(batch["image"], draws.image, spec)
        targets = smoothed_target(batch["label"], plan.num_classes, section.label_smoothing, images.dtype)
        with jax.named_scope("mixing"):
            images, targets = mixup.mix_labeled(images, targets, draws.mix, plan.group_size)
        with jax.named_scope("student"):
            logits = network.logits(params, images, masks(draws.image))
        loss = labeled_loss(logits, targets).mean()
        return loss, {"loss": metrics.of(loss)}

    def update(state: TrainState, batch: PyTree, draws: FinetuneDraws) -> tuple[TrainState, Metrics]:
        return stage_lib.update(
            state, batch, draws, micro_loss=micro_loss, optimizer=optimizer, ema_decay=section.ema_decay
        )

    return network, optimizer, update


def make(config: Config, plan: Plan, backend: str) -> Stage:
    """Closes over network and optimizer."""
    section = _section(config)
    network, optimizer, update = make_update(config, plan, backend=backend)

    def init(key: jax.Array) -> TrainState:
        return supervised.create_state(key, network, optimizer, keep_ema=section.ema_decay > 0)

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(config, plan, network, key, state.position))

    eval_step = supervised.make_eval_step(config, network)
    return Stage(
        "finetune", init, train_step, eval_step, supervised.eval_params, supervised.make_grade(plan), network.parting
    )


def sample_draws(config: Config, plan: Plan, network: Network, key: jax.Array, position: jax.Array) -> FinetuneDraws:
    """All draws of one update."""
    section = _section(config)
    spec = supervised.view_of(config, section, "labeled", network.drop_path_rates)
    image = stage_lib.stream_draws(key, "labeled", position=position, plan=plan, ratio=1, spec=spec)
    return FinetuneDraws(image, supervised.sample_labeled_mix(key, position, section, plan, config.data.image_size))


def _section(config: Config) -> SupervisedConfig:
    section = config.stage("finetune")
    assert isinstance(section, SupervisedConfig)
    return supervised.on_features(config, section)


STARTS_FROM = {"mae": mae.TO_CLASSIFIER, "finetune": AS_IT_IS, "semi": AS_IT_IS, IMPORT: IMPORTED}

SPEC = StageSpec(
    name="finetune",
    section=SupervisedConfig,
    check=lambda section: supervised.check(section, "finetune"),
    streams=lambda section: (Stream("labeled", "labeled", (("image", "labeled"),), balanced=section.balanced_order),),
    group_size=lambda section: section.mixup_group_size if section.labeled_mixup else 1,
    model=supervised.model,
    passes=lambda config, model: (Pass(tuning.cost(config.model, model), 1, backward=True),),
    make=make,
    starts_from=STARTS_FROM,
    score="acc1",
    summary={"acc1": "val/acc1", "ema_acc1": "val_ema/acc1"},
    rows=(("fine-tuning only", "acc1"),),
    shown={},
)
