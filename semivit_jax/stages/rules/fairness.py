"""Ask the student for diverse answers early in training: the fairness term of FreeMatch (Wang et al. 2023)."""

import jax
import jax.numpy as jnp

from semivit_jax.config import ConfigError
from semivit_jax.plan import Plan
from semivit_jax.stages.pseudo_label import RuleConfig


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


def check_mixing(keys: RuleConfig, pseudo_mixup: str) -> None:
    """Raises ConfigError where images mix: the term is of what the student says of the images themselves."""
    if pseudo_mixup != "none":
        raise ConfigError(
            f"config.semi.rule.fairness is {keys.fairness:g} and config.semi.pseudo_mixup {pseudo_mixup!r}: the "
            "fairness term is of unmixed images; use pseudo_mixup='none'"
        )


def check_plan(keys: RuleConfig, plan: Plan) -> None:
    """Raises ConfigError where an update comes in parts, or could never keep as many images as the penalty asks for."""
    asked, images = f"config.semi.rule.fairness is {keys.fairness:g}", plan.batch_size * plan.unlabeled_ratio
    if plan.accum > 1:
        raise ConfigError(
            f"{asked} and an update has {plan.accum} micro-steps: the fairness term is of all its images at once; "
            "use semi.accum=1, and more devices or train.max_images_per_device=0 where memory asks for more"
        )
    if images < keys.fairness_images * plan.num_classes:
        raise ConfigError(
            f"{asked}: it asks for {keys.fairness_images:g} kept images of each of {plan.num_classes} classes in an "
            f"update, which has {images} unlabeled ones; raise semi.batch_size, or lower semi.rule.fairness_images"
        )
