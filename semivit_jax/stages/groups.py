"""Mixing groups as an axis of their own: rows [g*size, (g+1)*size) of a batch are group g."""

import jax


def split(x: jax.Array, group_size: int) -> jax.Array:
    """(rows, ...) -> (groups, group_size, ...)."""
    return x.reshape(-1, group_size, *x.shape[1:])


def join(x: jax.Array) -> jax.Array:
    """(groups, size, ...) -> (rows, ...)."""
    return x.reshape(-1, *x.shape[2:])
