"""Compute losses, per example and at least in float32; the caller takes means."""

import jax
import jax.numpy as jnp
import optax


def promote(x: jax.Array) -> jax.Array:
    """At least float32, never narrowing float64."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """-sum_k target_k log softmax(logits)_k; both (..., classes) -> (...)."""
    return -jnp.sum(target * jax.nn.log_softmax(promote(logits), axis=-1), axis=-1)


def smoothed_target(label: jax.Array, num_classes: int, smoothing: float, dtype: jnp.dtype) -> jax.Array:
    """1 - s + s/K on the class and s/K elsewhere (Szegedy et al. 2016); int (...) -> (..., classes).

    A label of -1 (unknown) gives an all-zero one-hot, so it must not reach a loss that counts it.
    """
    return optax.smooth_labels(jax.nn.one_hot(label, num_classes, dtype=dtype), smoothing)


def correct(logits: jax.Array, label: jax.Array) -> jax.Array:
    """1 where the largest logit is the label's, else 0; (batch, classes), (batch,) -> (batch,)."""
    return (logits.argmax(axis=-1) == label).astype(promote(logits).dtype)


def mae_loss(
    patches: jax.Array, pred: jax.Array, patch_mask: jax.Array, *, norm_pix: bool
) -> tuple[jax.Array, jax.Array]:
    """Squared error on removed patches (He et al. 2022, section 3).

    Args:
      patches: (batch, patches, values), the image's own pixels.
      pred: same shape.
      patch_mask: (batch, patches), 1 where removed.
      norm_pix: normalise each target patch by its mean and its unbiased variance (+1e-6).

    Returns:
      (sum over removed patches of the mean squared error, number of removed patches).
    """
    target = promote(patches)
    if norm_pix:
        mean, variance = target.mean(-1, keepdims=True), target.var(-1, keepdims=True, ddof=1)
        target = (target - mean) / jnp.sqrt(variance + 1e-6)
    error = jnp.square(promote(pred) - target).mean(-1)
    return (error * patch_mask).sum(), patch_mask.sum()
