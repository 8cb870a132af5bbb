"""Derive random keys from (seed, stream name, position); keep no state."""

import zlib
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

Draws = TypeVar("Draws")


def stream(key: jax.Array, name: str) -> jax.Array:
    """Key of one named random stream."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def grouped(
    sample: Callable[[jax.Array], Draws], key: jax.Array, *, position: jax.Array, accum: int, groups: int
) -> Draws:
    """Draws once per group of an update's global batch.

    Group g of the update at `position` uses fold_in(fold_in(key, position), g), whatever the number of
    micro-steps, devices or hosts.

    Args:
      sample: key -> draws of one group.
      key: key of the stream.
      position: scalar int, batches consumed since the stage began.
      accum: micro-steps per update.
      groups: groups per micro-step.

    Returns:
      The draws with two leading axes (accum, groups).
    """
    at_position = jax.random.fold_in(key, position)
    keys = jax.vmap(lambda g: jax.random.fold_in(at_position, g))(jnp.arange(accum * groups))
    return jax.vmap(jax.vmap(sample))(keys.reshape(accum, groups))


def rows(draws: Draws) -> Draws:
    """Merges the group and member axes: leaves (accum, groups, size, ...) -> (accum, rows, ...)."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]), draws)
