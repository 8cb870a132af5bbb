"""Stage 1: masked autoencoding of all training images, labels unused (He et al. 2022)."""

from typing import NamedTuple

import jax

from semivit_jax.config import Config
from semivit_jax.models.families import autoencoder
from semivit_jax.models.patches import patchify
from semivit_jax.ops import metrics, rng
from semivit_jax.ops.losses import mae_loss
from semivit_jax.ops.metrics import Metrics
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages import state
from semivit_jax.stages.spec import StageSpec
from semivit_jax.stages.stage import ImageDraws, PyTree, Stage, ViewSpec, see
from semivit_jax.stages.state import TrainState


class MaeDraws(NamedTuple):
    """image: affine view, where made on the device; noise (accum, rows, patches), decides what is removed."""

    image: ImageDraws
    noise: jax.Array


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (model, optimizer, update); `update(state, batch, draws)` takes recorded batches and draws too."""
    assert config.mae is not None
    section = config.mae
    model = autoencoder(config.model, section, image_size=config.data.image_size, backend=backend)
    optimizer = stage_lib.make_optimizer(
        section, plan, weight_decays=model.weight_decays(section.weight_decay), lr_scales=((r"", 1.0),)
    )
    spec = view_spec(config)

    def micro_loss(params: PyTree, batch: PyTree, draws: MaeDraws):
        images = see(batch["image"], draws.image, spec)
        output = model.apply(params, images, draws.noise)
        patches = patchify(images, model.patch_size)
        total, removed = mae_loss(patches, output.pred, output.patch_mask, norm_pix=section.norm_pix_loss)
        loss = total / removed
        return loss, {"loss": metrics.of(loss)}

    def update(state: TrainState, batch: PyTree, draws: MaeDraws) -> tuple[TrainState, Metrics]:
        return stage_lib.update(state, batch, draws, micro_loss=micro_loss, optimizer=optimizer, ema_decay=0.0)

    return model, optimizer, update


def make_stage(config: Config, plan: Plan, *, backend: str) -> Stage:
    """Closes over model and optimizer."""
    model, optimizer, update = make_update(config, plan, backend=backend)

    def init(key: jax.Array) -> TrainState:
        return state.create(model.init(rng.stream(key, "params")), optimizer, keep_ema=False)

    def sample_draws(key: jax.Array, position: jax.Array) -> MaeDraws:
        image = stage_lib.stream_draws(key, "image", position=position, plan=plan, ratio=1, spec=view_spec(config))
        noise = rng.grouped(
            lambda k: jax.random.uniform(k, (plan.group_size, model.num_patches)),
            rng.stream(key, "noise"),
            position=position,
            accum=plan.accum,
            groups=plan.groups,
        )
        return MaeDraws(image, rng.rows(noise))

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(key, state.position))

    def eval_step(params: PyTree, batch: PyTree) -> Metrics:
        raise ValueError("the mae stage has no labels to evaluate; eval_params is empty")

    return Stage("mae", init, train_step, eval_step, lambda state: {})


def view_spec(config: Config) -> ViewSpec:
    """Crop and flip are made on the host; nothing is erased or dropped."""
    data = config.data
    view = data.affine_views.mae if data.affine_views else None
    return ViewSpec(data.mean, data.std, data.image_size, view, 0.0, None)


SPEC = StageSpec(
    name="mae",
    streams=lambda section: (Stream("training", "training", (("image", "mae"),), label=""),),
    group_size=lambda section: 1,
)
