"""Update by AdamW with per-parameter (path pattern, value) tables; schedule the learning rate.

The learning rate is not part of the transformation: the step passes it in, so that it follows
`TrainState.step` also where an update was dropped.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any
PathTable = Sequence[tuple[str, Any]]
Schedule = Callable[[jax.Array], jax.Array]  # step -> learning rate


class Optimizer(NamedTuple):
    """init(params) -> opt_state; direction(grads, opt_state, params) -> (direction, opt_state); lr(step)."""

    init: Callable[[Params], Any]
    direction: Callable[[Params, Any, Params], tuple[Params, Any]]
    lr: Schedule


def adamw(
    *,
    betas: tuple[float, float],
    eps: float,
    clip_norm: float,
    weight_decays: PathTable,
    lr_scales: PathTable,
    lr: Schedule,
) -> Optimizer:
    """AdamW with decoupled decay (Loshchilov & Hutter 2019) and layer-wise scales (Bao et al. 2022).

    One update is params - lr * lr_scale * (adam + weight_decay * params), eps after bias correction; so
    lr_scale also scales the decay.

    Args:
      betas: Adam's decays of the two moments.
      eps: Adam's, added to the root.
      clip_norm: limit of the global gradient norm, 0 for none.
      weight_decays: (path pattern, value) table; see `by_path`.
      lr_scales: the same.
      lr: step -> learning rate.
    """

    def direction(grads: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
        if clip_norm:
            grads = clip_by_norm(grads, clip_norm)
        updates, opt_state = adam_direction(grads, opt_state, betas=betas, eps=eps)
        decay, scale = by_path(weight_decays, params), by_path(lr_scales, params)
        updates = jax.tree.map(lambda u, p, wd, s: (u + wd * p) * s, updates, params, decay, scale)
        return updates, opt_state

    return Optimizer(optax.scale_by_adam().init, direction, lr)


def adam_direction(
    grads: Params, opt_state: optax.ScaleByAdamState, *, betas: tuple[float, float], eps: float
) -> tuple[Params, optax.ScaleByAdamState]:
    """Adam's direction (Kingma & Ba 2015, algorithm 1) from optax's state, with moments as optax has them.

    optax rounds beta2 to float32 before it takes 1 - beta2^t, which is off by 1.3e-5 of itself at first (beta2 0.999).
    Here the logarithm of beta2 is rounded, which is off by 6e-8.

    Returns:
      mean / (sqrt(square) + eps), both without bias, and the next state.
    """
    mu = optax.tree.update_moment(grads, opt_state.mu, betas[0], 1)
    nu = optax.tree.update_moment_per_elem_norm(grads, opt_state.nu, betas[1], 2)
    step = jnp.asarray(optax.safe_increment(opt_state.count))
    mean, square = _without_bias(mu, betas[0], step), _without_bias(nu, betas[1], step)
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
    return updates, optax.ScaleByAdamState(step, mu, nu)


def _without_bias(moment: Params, decay: float, step: jax.Array) -> Params:
    """moment / (1 - decay^step); a decay of 0 remembers nothing and has no bias."""
    if not decay:
        return moment
    unbiased = -jnp.expm1(step.astype(float) * math.log(decay))  # the logarithm is Python's, float64
    return jax.tree.map(lambda leaf: leaf / unbiased.astype(leaf.dtype), moment)


def clip_by_norm(grads: Params, clip_norm: float) -> Params:
    """grads * min(1, clip_norm / (norm + 1e-6)), PyTorch's rule; norm is the global L2 norm."""
    factor = jnp.minimum(1.0, clip_norm / (optax.tree.norm(grads) + 1e-6))
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def by_path(table: PathTable, params: Params) -> Params:
    """Value of the first pattern that matches each parameter's path ('blocks/attn/qkv/kernel').

    A list gives one value per layer of stacked blocks, along the leading axis.

    Raises:
      ValueError: a parameter no pattern matches, or a list of another length than its leading axis.
    """

    def value(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        for pattern, found in table:
            if re.search(pattern, name):
                return _per_layer(name, found, leaf) if isinstance(found, list) else found
        raise ValueError(f"no pattern matches parameter {name!r}; patterns: {[p for p, _ in table]}")

    return jax.tree_util.tree_map_with_path(value, params)


def path_name(path: Sequence[Any]) -> str:
    """Slash-joined name of a leaf's path: dict keys, attributes and indices."""
    return "/".join(str(_part(p)) for p in path)


def _part(entry: Any) -> Any:
    return next(getattr(entry, a) for a in ("key", "name", "idx") if hasattr(entry, a))


def _per_layer(name: str, values: list[float], leaf: Any) -> jax.Array:
    if leaf.shape[0] != len(values):
        raise ValueError(f"{name} has {leaf.shape[0]} layers, the table {len(values)} values")
    return jnp.asarray(values, leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1))


class Course(NamedTuple):
    """What a schedule may depend on.

    Attributes:
      peak_lr, min_lr: learning rates.
      warmup_epochs, epochs: of the whole stage, from its start.
      micro_per_epoch, steps_per_epoch: micro-batches and updates.
      total_steps: updates of the stage.
      accum: micro-batches per update that the recipe asks for.
    """

    peak_lr: float
    min_lr: float
    warmup_epochs: float
    epochs: float
    micro_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    accum: int


def cosine(course: Course) -> Schedule:
    """Linear warm-up from 0, then half a cosine to min_lr, by fractions of an epoch (MAE's schedule).

    The position of update `step` is step // steps_per_epoch + (step % steps_per_epoch) * accum /
    micro_per_epoch epochs, with the recipe's own accum, whatever number of micro-steps the devices need.
    """
    c = course

    def lr(step: jax.Array) -> jax.Array:
        within = (step % c.steps_per_epoch).astype(float) * c.accum / c.micro_per_epoch
        t = step // c.steps_per_epoch + within  # float: jax's default float type, float64 in parity runs
        warm = c.peak_lr * t / max(c.warmup_epochs, 1e-12)
        share = (t - c.warmup_epochs) / max(c.epochs - c.warmup_epochs, 1e-12)
        cold = c.min_lr + (c.peak_lr - c.min_lr) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        return jnp.where(t < c.warmup_epochs, warm, cold)

    return lr


def cosine_inclusive_warmup(course: Course) -> Schedule:
    """ConvNeXt's table: warm-up that reaches the peak, then a cosine that starts at it and never ends at min_lr."""
    c, warmup_steps = course, int(course.warmup_epochs * course.steps_per_epoch)

    def lr(step: jax.Array) -> jax.Array:
        step = step.astype(float)
        warm = c.peak_lr * step / max(warmup_steps - 1, 1)
        share = (step - warmup_steps) / max(c.total_steps - warmup_steps, 1)
        cold = c.min_lr + (c.peak_lr - c.min_lr) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        return jnp.where(step < warmup_steps, warm, cold)

    return lr


SCHEDULES: dict[str, Callable[[Course], Schedule]] = {
    "cosine": cosine,
    "cosine_inclusive_warmup": cosine_inclusive_warmup,
}
