"""Remember a number over updates: running means that count images, however many come at a time."""

import jax
import jax.numpy as jnp

from semivit_jax.stages.pseudo_label import RuleConfig


def begun(keys: RuleConfig, published: float, shape: tuple[int, ...] = ()) -> jax.Array:
    """What a running mean begins with: zeros, which give way to the first batch, or what was published."""
    return jnp.full(shape, published if keys.start == "published" else 0.0)


def blend(old: jax.Array, new: jax.Array, images: int, window: float) -> jax.Array:
    """m old + (1 - m) new with m = exp(-images / window); an old one of zeros remembers nothing, and gives way.

    The published momentum of 0.999 at b unlabeled images in an update is a window of b / 0.0010005.
    """
    memory = jnp.where(old.any(), jnp.exp(-images / window), 0.0).astype(old.dtype)
    return (memory * old + (1 - memory) * new).astype(old.dtype)


def running_mean(old: jax.Array, rows: jax.Array, window: float) -> jax.Array:
    """`blend` with the mean of this update's rows (b, ...)."""
    return blend(old, rows.mean(axis=0), len(rows), window)
