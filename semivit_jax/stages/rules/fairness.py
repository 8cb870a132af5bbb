"""Ask the student for diverse answers early in training: the fairness term of FreeMatch (Wang et al. 2023)."""

import jax
import jax.numpy as jnp


def fairness(probs: jax.Array, kept: jax.Array, g: jax.Array, h: jax.Array, *, least: float) -> jax.Array:
    """sum_k A_k log B_k with A ~ g / h and B ~ mean of p / its histogram (Wang et al. 2023, section 3.2): minimised.

    A negative cross-entropy, so that it pushes B away from A. Only the mean passes a gradient. A class that no kept
    image is said to be of has B_k = 0 and no gradient, as in the published code, where the value then jumps.

    Args:
      probs: (b, K), the student's on unmixed strong views.
      kept: bool (b,), images that count.
      g: (K,), running mean of the teacher's probabilities.
      h: (K,), running shares of the classes among its labels.
      least: kept images below which the term is 0; it is 0 too where none is kept.
    """
    weight = kept.astype(probs.dtype)
    number = weight.sum()
    mean = weight @ probs / jnp.maximum(number, 1)
    said = weight @ jax.nn.one_hot(probs.argmax(axis=-1), probs.shape[-1], dtype=probs.dtype)
    wanted, found = _normalised(_over(g, h)), _normalised(_over(mean, said))
    value = (wanted.astype(probs.dtype) * jnp.log(found + 1e-12)).sum()
    return jnp.where(number >= max(least, 1.0), value, 0.0)


def _over(x: jax.Array, by: jax.Array) -> jax.Array:
    """x / by, and 0 where that is 0."""
    return jnp.where(by > 0, x / jnp.where(by > 0, by, 1), 0)


def _normalised(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(x.sum(), 1e-12)
