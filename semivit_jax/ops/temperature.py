"""Fit the temperature that makes a classifier as sure as it is right (Guo et al. 2017, section 4.2)."""

from typing import Any, NamedTuple

import numpy as np

from semivit_jax.words import counted

FEWEST_IMAGES = 50
MOST = 20.0  # a temperature beyond it, or below 1 / MOST, says that the log loss has no minimum


class Temperature(NamedTuple):
    """What logits are divided by before softmax.

    Attributes:
      value: 1 where none could be fitted.
      images: that it was fitted on.
      missing: why there is none; '' where there is.
    """

    value: float
    images: int
    missing: str


def fit(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature T of smallest log loss of softmax(logits / T).

    Args:
      logits: float [n, K].
      labels: int [n].

    Returns:
      1, and why, where the images are fewer than 50, or the loss has no minimum within 1/20 and 20: of a classifier
      that makes no mistake on them it falls forever.
    """
    if len(labels) < FEWEST_IMAGES:
        few = f"{counted(len(labels), 'validation image')}, at least {FEWEST_IMAGES} are needed"
        return Temperature(1.0, len(labels), few)
    from scipy import optimize  # which reading a temperature need not wait for

    edge = float(np.log(MOST))
    found: Any = optimize.minimize_scalar(
        lambda log_t: log_loss(logits, labels, float(np.exp(log_t))),
        bounds=(-edge, edge),
        method="bounded",
        options={"xatol": 1e-6},
    )
    if not found.success or abs(found.x) > 0.99 * edge:
        return Temperature(1.0, len(labels), f"on {counted(len(labels), 'validation image')} the fit does not converge")
    return Temperature(float(np.exp(found.x)), len(labels), "")


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Mean of -log softmax(logits / temperature) at the labels, in float64."""
    scaled = logits.astype(np.float64) / temperature
    return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))
