"""Define the training state, and change it: apply one optimizer update, then the EMA."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from semivit_jax.models.parting import Parting, Parts
from semivit_jax.ops.optim import Optimizer
from semivit_jax.words import gib

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """Everything a stage carries from update to update; no random key is among it."""

    step: PyTree  # int scalar, optimizer updates so far, dropped ones included
    position: PyTree  # int scalar, batches consumed since the stage began
    params: PyTree  # current weights, those that are trained
    opt_state: PyTree  # Adam moments and their count
    ema_params: PyTree  # moving average of params, None where the stage keeps none
    policy_state: PyTree  # of the pseudo-label rule; () where it has none
    frozen: PyTree = None  # the parameters that are not trained, beside params and average alike; None: there are none

    def model(self, trained: PyTree) -> PyTree:
        """What networks take: `params`, or the average of them, with what is frozen."""
        return trained if self.frozen is None else Parts(trained, self.frozen)

    def weights(self) -> dict[str, PyTree]:
        """What is kept of the best evaluation: both sets of weights, and what is frozen beside them."""
        return {"params": self.params, "ema_params": self.ema_params, "frozen": self.frozen}


def create(
    params: PyTree, optimizer: Optimizer, *, keep_ema: bool, policy_state: PyTree = (), frozen: PyTree = None
) -> TrainState:
    """State before the first update; ema_params start as a copy, not an alias, so both can be donated."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        position=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        ema_params=jax.tree.map(jnp.copy, params) if keep_ema else None,
        policy_state=policy_state,
        frozen=frozen,
    )


def apply_gradients(
    state: TrainState,
    optimizer: Optimizer,
    *,
    grads: PyTree,
    policy_state: PyTree,
    ema_decay: float,
    ok: jax.Array,
) -> TrainState:
    """One update: AdamW, then the average of the new params. Where `ok` is false all stays as it was.

    Args:
      state: before the update.
      optimizer: direction and learning rate.
      grads: averaged over micro-steps.
      policy_state: of the pseudo-label rule after this batch.
      ema_decay: weight of the old average; constant, without warm-up or bias correction.
      ok: bool scalar; false drops the whole update, yet step and position move on.
    """
    direction, opt_state = optimizer.direction(grads, state.opt_state, state.params)
    lr = optimizer.lr(state.step)
    params = jax.tree.map(lambda p, d: p - (lr * d).astype(p.dtype), state.params, direction)
    ema_params = None if state.ema_params is None else ema_update(state.ema_params, params, ema_decay)
    old = dataclasses.replace(state, frozen=None)
    new = dataclasses.replace(old, params=params, opt_state=opt_state, ema_params=ema_params, policy_state=policy_state)
    kept = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)
    return dataclasses.replace(kept, step=state.step + 1, position=state.position + 1, frozen=state.frozen)


def told(state: TrainState, parting: Parting) -> str:
    """How much a described state trains, and what it saves beside one that trains all; '' where it does."""
    if state.frozen is None:
        return ""
    whole = jax.eval_shape(parting.whole, state.params, state.frozen)
    added = nbytes((state.params, state.frozen)) - nbytes(whole)
    copies = 3 + (state.ema_params is not None)  # gradients and two moments, and the average
    saved = copies * (nbytes(whole) - nbytes(state.params)) - added
    kinds = "gradients, moments and average" if state.ema_params is not None else "gradients and moments"
    trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (state.params, state.frozen))
    return f"{trained:,} parameters, {frozen:,} are frozen: {gib(saved)} less of {kinds} than if all were trained"


def nbytes(tree: PyTree) -> int:
    """Of all arrays of a tree, which may be described only, over all devices."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def ema_update(ema_params: PyTree, params: PyTree, ema_decay: float) -> PyTree:
    """ema_decay * ema_params + (1 - ema_decay) * params."""
    return optax.incremental_update(params, ema_params, 1.0 - ema_decay)
