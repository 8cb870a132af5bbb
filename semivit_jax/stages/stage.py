"""Define Stage, the functions the loop calls, and what all share: micro-steps, optimizer, `see`."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from semivit_jax.config import AffineConfig, StageConfig
from semivit_jax.models.parting import WHOLE, Parting
from semivit_jax.ops import affine, metrics, optim, rng
from semivit_jax.ops.erasing import ErasingDraw, apply_erasing, sample_erasing
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.optim import Optimizer, PathTable
from semivit_jax.plan import Plan
from semivit_jax.stages.state import TrainState, apply_gradients

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Stage:
    """A training stage as pure functions; the loop treats them as opaque values.

    Attributes:
      name: a key of `stages.STAGES`.
      init: key -> TrainState, freshly initialised.
      train_step: (state, batch, key) -> (state, metrics). Batch leaves are [accum, rows, ...]; every
        metric is a `Mean` whose sums and counts have a leading micro-step axis.
      eval_step: (params, batch with 'image', 'label', 'mask') -> metrics of that batch, exact sums.
      eval_params: state -> {metric prefix: params to evaluate}; empty where the stage has no score.
      grade: metrics of `eval_step`, added over all batches -> {name: number}, the stage's score among them.
      parting: which parameters of its model are trained.
    """

    name: str
    init: Callable[[jax.Array], TrainState]
    train_step: Callable[[TrainState, PyTree, jax.Array], tuple[TrainState, Metrics]]
    eval_step: Callable[[PyTree, PyTree], Metrics]
    eval_params: Callable[[TrainState], dict[str, PyTree]]
    grade: Callable[[Metrics], dict[str, float]]
    parting: Parting = WHOLE


class ImageDraws(NamedTuple):
    """Draws for one stream of images, leaves [accum, rows, ...]; None where the recipe draws nothing.

    Attributes:
      matrices: (..., 2, 3), affine view made on the device.
      erasing: boxes and noise keys of random erasing.
      drop_path: (..., *shape of the model's rates), keep masks divided by their probability.
    """

    matrices: jax.Array | None = None
    erasing: ErasingDraw | None = None
    drop_path: jax.Array | None = None


class DeviceView(NamedTuple):
    """How one stream of images is seen on the device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    affine: AffineConfig | None
    erase_prob: float
    drop_path_rates: Any  # numpy array of the model's rates, None for streams that pass in evaluation mode


def sample_images(key: jax.Array, size: int, spec: DeviceView) -> ImageDraws:
    """Draws for `size` images of one group."""
    key_affine, key_erasing, key_drop_path = jax.random.split(key, 3)
    matrices = erased = drop_path = None
    if spec.affine is not None:
        matrices = affine.sample_affine(key_affine, **dataclasses.asdict(spec.affine), num=size)
    if spec.erase_prob:
        erased = sample_erasing(key_erasing, num=size, image_size=spec.image_size, erase_prob=spec.erase_prob)
    if spec.drop_path_rates is not None and spec.drop_path_rates.any():
        keep = jnp.asarray(1.0 - spec.drop_path_rates)
        drop_path = jax.random.bernoulli(key_drop_path, keep, (size, *keep.shape)) / keep
    return ImageDraws(matrices, erased, drop_path)


def see(images: jax.Array, draws: ImageDraws, spec: DeviceView) -> jax.Array:
    """uint8 (rows, h, w, 3) -> normalised floats, warped and erased as drawn.

    Float images are taken as normalised already; that is how tests replay the published code's batches.
    """
    if images.dtype == jnp.uint8:
        images = images.astype(float) / 255.0  # jax's default float type, float64 where it is switched on
        if draws.matrices is not None:
            images = affine.apply_affine(images, draws.matrices)
        images = (images - jnp.asarray(spec.mean)) / jnp.asarray(spec.std)
    return images if draws.erasing is None else apply_erasing(images, draws.erasing)


def see_view(name: str, stream: PyTree, draws: ImageDraws, spec: DeviceView) -> jax.Array:
    """A view of a stream's images: an array of its own from the host, or drawn on the device from the one 'image'."""
    return see(stream[name] if name in stream else stream["image"], draws, spec)


def masks(draws: ImageDraws) -> jax.Array | None:
    """Drop-path masks as models take them: batch axis last."""
    return None if draws.drop_path is None else jnp.moveaxis(draws.drop_path, 0, -1)


def stream_draws(
    key: jax.Array, name: str, *, position: jax.Array, plan: Plan, ratio: int, spec: DeviceView
) -> ImageDraws:
    """Draws of one stream for a whole update; `ratio` images of the stream per labeled one."""
    size = plan.group_size * ratio
    draws = rng.grouped(
        lambda k: sample_images(k, size, spec),
        rng.stream(key, name),
        position=position,
        accum=plan.accum,
        groups=plan.groups,
    )
    return rng.rows(draws)


def make_optimizer(section: StageConfig, plan: Plan, *, weight_decays: PathTable, lr_scales: PathTable) -> Optimizer:
    """AdamW and the schedule of a stage."""
    course = optim.Course(
        peak_lr=plan.peak_lr,
        min_lr=section.min_lr,
        warmup_epochs=section.warmup_epochs * plan.stretch,
        epochs=section.epochs * plan.stretch,
        micro_per_epoch=plan.micro_per_epoch,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        accum=plan.recipe_accum,
    )
    return optim.adamw(
        betas=section.betas,
        eps=section.eps,
        clip_norm=section.clip_norm,
        weight_decays=weight_decays,
        lr_scales=lr_scales,
        lr=optim.SCHEDULES[section.schedule](course),
    )


MicroLoss = Callable[[PyTree, PyTree, PyTree], tuple[jax.Array, Metrics]]


def update(
    state: TrainState,
    inputs: PyTree,
    draws: PyTree,
    *,
    micro_loss: MicroLoss,
    optimizer: Optimizer,
    ema_decay: float,
    policy_state: PyTree = (),
) -> tuple[TrainState, Metrics]:
    """One optimizer update from micro-steps whose gradients are averaged.

    Args:
      state: before the update.
      inputs: leaves [accum, rows, ...], the batch and what was made of it before.
      draws: leaves [accum, rows, ...].
      micro_loss: (params of the model, inputs, draws of one micro-step) -> (loss, metrics).
      optimizer: of the stage.
      ema_decay: of the stage.
      policy_state: of the pseudo-label rule after this batch; a dropped update keeps the old one.

    Returns:
      The state, and the metrics of every micro-step plus `grad_norm` (before clipping), `lr` and `dropped`.
    """

    def loss_of(trained: PyTree, *given: PyTree) -> tuple[jax.Array, Metrics]:
        return micro_loss(state.model(trained), *given)

    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)  # so what is frozen has no gradient
    accum = num_micro_steps(inputs)

    def micro_step(grads: PyTree, given: PyTree) -> tuple[PyTree, tuple[jax.Array, Metrics]]:
        (loss, found), more = value_and_grad(state.params, *given)
        grads = more if grads is None else jax.tree.map(jnp.add, grads, more)
        return grads, (jnp.isfinite(loss), found)

    first, rest = (jax.tree.map(lambda x, s=s: x[s], (inputs, draws)) for s in (0, slice(1, None)))
    grads, (finite, found) = micro_step(None, first)
    found = jax.tree.map(lambda x: jnp.asarray(x)[None], found)
    if accum > 1:  # the first micro-step starts the sum, so one step alone pays for no scan
        grads, (more_finite, more_found) = jax.lax.scan(micro_step, grads, rest)
        finite = finite & more_finite.all()
        found = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, more_found)
    with jax.named_scope("optimizer"):
        grads = jax.tree.map(lambda g: g / accum, grads)
        grad_norm = optax.tree.norm(grads)
        ok = finite & jnp.isfinite(grad_norm)
        new_state = apply_gradients(
            state, optimizer, grads=grads, policy_state=policy_state, ema_decay=ema_decay, ok=ok
        )
    found["grad_norm"] = metrics.of(grad_norm)
    found["lr"] = metrics.of(optimizer.lr(state.step))
    found["dropped"] = metrics.of(1.0 - ok)
    return new_state, found


def each_micro_step(function: Callable[..., PyTree], *inputs: PyTree) -> PyTree:
    """Results of one micro-step after the other, so that only one is in memory; all leaves are [accum, rows, ...]."""
    if num_micro_steps(inputs) > 1:
        return jax.lax.map(lambda given: function(*given), inputs)
    found = function(*jax.tree.map(lambda x: x[0], inputs))  # one alone pays for no scan
    return jax.tree.map(lambda x: x[None], found)


def num_micro_steps(inputs: PyTree) -> int:
    """The length of the leading axis of every leaf."""
    return jax.tree.leaves(inputs)[0].shape[0]
