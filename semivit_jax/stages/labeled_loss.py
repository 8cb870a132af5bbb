"""Choose how labeled images count where some classes have many labels and others few: the table LABELED_LOSSES."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.ops.losses import cross_entropy, promote

LabeledLoss = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits, targets), both (rows, K) -> loss of each image (rows,)."""


def _plain(counts: np.ndarray, beta: float, tau: float) -> LabeledLoss:
    del counts, beta, tau
    return cross_entropy


def _class_balanced(counts: np.ndarray, beta: float, tau: float) -> LabeledLoss:
    """w * cross-entropy with w_k ~ (1 - beta) / (1 - beta^n_k) (Cui et al. 2019, eq. 4), whose mean over the labeled
    images is 1, so that the learning rate keeps its meaning. A mixed target weighs as its classes do.
    """
    del tau
    weights = class_weights(counts, beta)

    def loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
        return (targets @ jnp.asarray(weights, targets.dtype)) * cross_entropy(logits, targets)

    return loss


def _logit_adjusted(counts: np.ndarray, beta: float, tau: float) -> LabeledLoss:
    """Cross-entropy of logits + tau log prior (Menon et al. 2021, eq. 10): the logits alone, as they are used
    afterwards, are then those of a classifier for equally frequent classes.
    """
    del beta
    present = np.maximum(counts, 1)
    offset = tau * np.log(present / present.sum())

    def loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
        logits = promote(logits)
        return cross_entropy(logits + jnp.asarray(offset, logits.dtype), targets)

    return loss


LABELED_LOSSES: dict[str, Callable[[np.ndarray, float, float], LabeledLoss]] = {
    "plain": _plain,
    "class_balanced": _class_balanced,
    "logit_adjusted": _logit_adjusted,
}


def make_loss(name: str, per_class: Sequence[int], *, beta: float, tau: float) -> LabeledLoss:
    """The loss of a row of LABELED_LOSSES.

    Args:
      name: of the row.
      per_class: labeled images of each class; one without any counts as if it had one.
      beta: of 'class_balanced', from 0, where all classes weigh the same, to nearly 1, inverse to their counts.
      tau: of 'logit_adjusted', by how much the prior is taken away.
    """
    return LABELED_LOSSES[name](np.asarray(per_class, np.float64), beta, tau)


def class_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """float64 (K,), by the effective number of images of each class; their mean over all images is 1."""
    present = np.maximum(counts, 1)
    weights = (1.0 - beta) / (1.0 - beta**present)
    return weights * present.sum() / (weights * present).sum()
