"""Stage 2: supervised fine-tuning on the labeled images."""

from typing import NamedTuple

import jax

from semivit_jax.config import AffineConfig, Config, ConfigError, FinetuneConfig
from semivit_jax.models import families
from semivit_jax.models.families import Network
from semivit_jax.models.gather import on_every_device
from semivit_jax.models.spec import ModelSpec
from semivit_jax.ops import metrics, mixup, rng, scores
from semivit_jax.ops.losses import cross_entropy, smoothed_target
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.optim import Optimizer
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import mae, state
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages.groups import join, split
from semivit_jax.stages.spec import AS_IT_IS, IMPORT, IMPORTED, Pass, StageSpec
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree, Stage, masks, see
from semivit_jax.stages.state import TrainState


class FinetuneDraws(NamedTuple):
    """image: of every labeled image; mix: leaves [accum, groups, ...], None without labeled mixup."""

    image: ImageDraws
    mix: mixup.GroupDraw | None


def model(config: Config, num_classes: int) -> ModelSpec:
    """What the stage trains."""
    return families.describe(config.model, image_size=config.data.image_size, num_classes=num_classes)


def build_model(config: Config, section: FinetuneConfig, plan: Plan, *, backend: str) -> Network:
    """The stage's network, with its drop path."""
    spec = model(config, plan.num_classes)
    return families.network(spec, families.compute(config.model, spec, backend=backend), section.drop_path_rate)


def build_optimizer(section: FinetuneConfig, plan: Plan, model: Network) -> Optimizer:
    """AdamW with the model's layer-wise learning rates.

    Raises:
      ConfigError: the model has no groups for such a layer decay.
    """
    try:
        lr_scales = model.lr_scales(section.layer_decay, section.head_lr_scale)
    except ValueError as error:
        raise ConfigError(f"config.{plan.stage}.layer_decay: {error}") from error
    return stage_lib.make_optimizer(
        section, plan, weight_decays=model.weight_decays(section.weight_decay), lr_scales=lr_scales
    )


def mix_labeled(images: jax.Array, targets: jax.Array, draw: mixup.GroupDraw | None, group_size: int):
    """Mixes labeled images (rows, h, w, c) and targets (rows, classes) inside their groups."""
    if draw is None:
        return images, targets
    height, width = images.shape[1:3]
    partner = mixup.reversed_partner(group_size)
    mixing = jax.vmap(lambda d: mixup.group_mixing(d, partner, height, width))(draw)
    return mix_groups(images, targets, mixing, group_size)


def mix_groups(images: jax.Array, targets: jax.Array, mixing: mixup.Mixing, group_size: int):
    """Applies per-group mixings, leaves (groups, size, ...), to rows."""
    images = jax.vmap(mixup.mix_images)(split(images, group_size), mixing)
    targets = jax.vmap(mixup.mix_targets)(split(targets, group_size), mixing)
    return join(images), join(targets)


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (model, optimizer, update); `update(state, batch, draws)` takes recorded batches and draws too."""
    assert config.finetune is not None
    section = config.finetune
    model = build_model(config, section, plan, backend=backend)
    optimizer = build_optimizer(section, plan, model)
    spec = labeled_spec(config, section, model)

    def micro_loss(params: PyTree, batch: PyTree, draws: FinetuneDraws):
        images = see(batch["image"], draws.image, spec)
        targets = smoothed_target(batch["label"], plan.num_classes, section.label_smoothing, images.dtype)
        images, targets = mix_labeled(images, targets, draws.mix, plan.group_size)
        logits = model.logits(params, images, masks(draws.image))
        loss = cross_entropy(logits, targets).mean()
        return loss, {"loss": metrics.of(loss)}

    def update(state: TrainState, batch: PyTree, draws: FinetuneDraws) -> tuple[TrainState, Metrics]:
        return stage_lib.update(
            state, batch, draws, micro_loss=micro_loss, optimizer=optimizer, ema_decay=section.ema_decay
        )

    return model, optimizer, update


def make_stage(config: Config, plan: Plan, *, backend: str) -> Stage:
    """Closes over model and optimizer."""
    assert config.finetune is not None
    section = config.finetune
    model, optimizer, update = make_update(config, plan, backend=backend)

    def init(key: jax.Array) -> TrainState:
        return state.create(model.init(rng.stream(key, "params")), optimizer, keep_ema=section.ema_decay > 0)

    def sample_draws(key: jax.Array, position: jax.Array) -> FinetuneDraws:
        spec = labeled_spec(config, section, model)
        image = stage_lib.stream_draws(key, "labeled", position=position, plan=plan, ratio=1, spec=spec)
        return FinetuneDraws(image, sample_labeled_mix(key, position, section, plan, config.data.image_size))

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(key, state.position))

    return Stage("finetune", init, train_step, make_eval_step(config, model), eval_params)


def sample_labeled_mix(
    key: jax.Array, position: jax.Array, section: FinetuneConfig, plan: Plan, image_size: int
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


def chances(section: FinetuneConfig) -> mixup.Chances:
    """What the stage's mixups are drawn with."""
    return mixup.Chances(section.mixup_alpha, section.cutmix_alpha, section.mixup_prob, section.cutmix_switch_prob)


def labeled_spec(config: Config, section: FinetuneConfig, model: Network) -> DeviceView:
    """View of the labeled images."""
    view = config.data.affine_views.labeled if config.data.affine_views else None
    return train_spec(config, section, model, view)


def train_spec(config: Config, section: FinetuneConfig, model: Network, view: AffineConfig | None) -> DeviceView:
    """View of images the student learns from: erased, and passed with drop path."""
    data = config.data
    return DeviceView(data.mean, data.std, data.image_size, view, section.erase_prob, model.drop_path_rates)


def make_eval_step(config: Config, model: Network):
    """Masked sums of loss, top-1 and top-5 over a padded batch."""
    spec = DeviceView(config.data.mean, config.data.std, config.data.image_size, None, 0.0, None)

    def eval_step(params: PyTree, batch: PyTree) -> Metrics:
        logits = model.logits(params, see(batch["image"], ImageDraws(), spec), None)
        return scores.base_sums(logits, batch["label"], batch["mask"])

    return eval_step


def eval_params(state: TrainState) -> dict[str, PyTree]:
    """The student, and its average where the stage keeps one."""
    averaged = {} if state.ema_params is None else {"val_ema": state.ema_params}
    return {"val": state.params, **averaged}


STARTS_FROM = {"mae": mae.TO_CLASSIFIER, "finetune": AS_IT_IS, "semi": AS_IT_IS, IMPORT: IMPORTED}

SPEC = StageSpec(
    name="finetune",
    streams=lambda section: (Stream("labeled", "labeled", (("image", "labeled"),)),),
    group_size=lambda section: section.mixup_group_size if section.labeled_mixup else 1,
    model=model,
    passes=lambda config, model: (Pass(families.cost(model), 1, backward=True),),
    starts_from=STARTS_FROM,
)
