"""Pre-train as a masked autoencoder on all training images, labels unused: stage 1."""

import dataclasses
from typing import Annotated, NamedTuple

import jax

from semivit_jax.config import AT_LEAST_ONE, Config, ConfigError, Range, StageConfig
from semivit_jax.models import families, tuning
from semivit_jax.models.families import Autoencoder
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.patches import patchify
from semivit_jax.models.spec import Decoder, ModelSpec
from semivit_jax.ops import metrics, rng
from semivit_jax.ops.losses import mae_loss
from semivit_jax.ops.metrics import Metrics
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages import state
from semivit_jax.stages.spec import AS_IT_IS, FRESH_HEAD, IMPORT, IMPORTED, Handover, Pass, StageSpec
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree, Stage, see
from semivit_jax.stages.state import TrainState


@dataclasses.dataclass(frozen=True)
class MaeConfig(StageConfig):
    """Stage 1, masked autoencoding (He et al. 2022)."""

    mask_ratio: Annotated[float, Range(0.01, 0.99)]  # share of the patches that are hidden
    norm_pix_loss: bool  # targets are pixels normalised per patch
    decoder_width: Annotated[int, AT_LEAST_ONE]  # of its tokens
    decoder_depth: Annotated[int, AT_LEAST_ONE]  # blocks
    decoder_num_heads: Annotated[int, AT_LEAST_ONE]  # per block; divides the width


class MaeDraws(NamedTuple):
    """image: affine view, where made on the device; noise (accum, rows, patches), decides what is removed."""

    image: ImageDraws
    noise: jax.Array


def model(config: Config, num_classes: int) -> ModelSpec:
    """What the stage trains: an autoencoder, for which classes do not count.

    Raises:
      ConfigError: sizes of the decoder that do not fit each other, or a part of the model alone is to be trained.
    """
    del num_classes
    section = _section(config)
    if section.decoder_width % 4 or section.decoder_width % section.decoder_num_heads:
        raise ConfigError(
            f"config.mae.decoder_width is {section.decoder_width}; it must be a multiple of 4, for the position "
            f"embedding, and of config.mae.decoder_num_heads, {section.decoder_num_heads}"
        )
    if config.model.tune != tuning.ALL:
        raise ConfigError(
            f"config.model.tune is {config.model.tune!r}, and stage mae trains all; leave it out of config.stages and "
            "give config.init_from, or set all"
        )
    encoder = families.describe(config.model, image_size=config.data.image_size, num_classes=0)
    decoder = Decoder(section.decoder_width, section.decoder_depth, section.decoder_num_heads)
    return with_decoder(encoder, decoder)


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (autoencoder, optimizer, update); `update(state, batch, draws)` takes those of tests too."""
    section = _section(config)
    spec = model(config, plan.num_classes)
    autoencoder = families.autoencoder(spec, families.compute(config.model, spec, backend=backend), section.mask_ratio)
    optimizer = stage_lib.make_optimizer(
        section, plan, weight_decays=autoencoder.weight_decays(section.weight_decay), lr_scales=((r"", 1.0),)
    )
    view = view_spec(config)

    def micro_loss(params: PyTree, batch: PyTree, draws: MaeDraws):
        images = see(batch["image"], draws.image, view)
        with jax.named_scope("autoencoder"):
            output = autoencoder.apply(params, images, draws.noise)
        patches = patchify(images, autoencoder.patch_size)
        total, removed = mae_loss(patches, output.pred, output.patch_mask, norm_pix=section.norm_pix_loss)
        loss = total / removed
        return loss, {"loss": metrics.of(loss)}

    def update(state: TrainState, batch: PyTree, draws: MaeDraws) -> tuple[TrainState, Metrics]:
        return stage_lib.update(state, batch, draws, micro_loss=micro_loss, optimizer=optimizer, ema_decay=0.0)

    return autoencoder, optimizer, update


def make(config: Config, plan: Plan, backend: str) -> Stage:
    """Closes over autoencoder and optimizer."""
    autoencoder, optimizer, update = make_update(config, plan, backend=backend)

    def init(key: jax.Array) -> TrainState:
        return state.create(autoencoder.init(rng.stream(key, "params")), optimizer, keep_ema=False)

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(config, plan, autoencoder, key, state.position))

    def eval_step(params: PyTree, batch: PyTree) -> Metrics:
        raise ValueError("the mae stage has no labels to evaluate; eval_params is empty")

    return Stage("mae", init, train_step, eval_step, lambda state: {}, metrics.compute)


def sample_draws(config: Config, plan: Plan, autoencoder: Autoencoder, key: jax.Array, position: jax.Array) -> MaeDraws:
    """All draws of one update."""
    image = stage_lib.stream_draws(key, "image", position=position, plan=plan, ratio=1, spec=view_spec(config))
    noise = rng.grouped(
        lambda k: jax.random.uniform(k, (plan.group_size, autoencoder.num_patches)),
        rng.stream(key, "noise"),
        position=position,
        accum=plan.accum,
        groups=plan.groups,
    )
    return MaeDraws(image, rng.rows(noise))


def _section(config: Config) -> MaeConfig:
    section = config.stage("mae")
    assert isinstance(section, MaeConfig)
    return section


def view_spec(config: Config) -> DeviceView:
    """Crop and flip are made on the host; nothing is erased or dropped."""
    data = config.data
    view = data.affine_views.mae if data.affine_views else None
    return DeviceView(data.mean, data.std, data.image_size, view, 0.0, None)


def passes(config: Config, model: ModelSpec) -> tuple[Pass, ...]:
    """Every image once, forward and backward."""
    return (Pass(families.cost(model, _section(config).mask_ratio), 1, backward=True),)


# For a classifier MAE's decoder has done its work. The head is new, and so is fc_norm (pool 'mean'), while MAE's norm
# serves pool 'cls'. A learned posemb starts as the sin-cos table that MAE used.
TO_CLASSIFIER = Handover(left=(r"^decoder\.", r"^norm\."), fresh=(*FRESH_HEAD, r"^fc_norm\.", r"^posemb$"))

SPEC = StageSpec(
    name="mae",
    section=MaeConfig,
    check=lambda section: None,
    streams=lambda section: (Stream("training", "training", (("image", "mae"),), label=""),),
    group_size=lambda section: 1,
    model=model,
    passes=passes,
    make=make,
    starts_from={"mae": AS_IT_IS, IMPORT: IMPORTED},
    score="",
    summary={"loss": "last_epoch/loss"},
    rows=(),
    shown={},
    pre_training=True,
)
