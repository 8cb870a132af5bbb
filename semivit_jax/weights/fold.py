"""Fold layer scale (Touvron et al. 2021, CaiT, eq. 8) into the linear layer just before it."""

import re
from collections.abc import Mapping

import numpy as np

from semivit_jax.weights.tensors import Tensors


def fold_layer_scale(tensors: Tensors, layers: Mapping[str, str]) -> Tensors:
    """Replaces gamma * (W x + b) by (gamma W) x + gamma b, so that a model without layer scale fits.

    Args:
      tensors: a state dict, weights (out, in).
      layers: linear layer -> its gamma, with "{block}" for the block number.

    Returns:
      The state dict whose named layers are read with gamma multiplied in; the gammas are gone from it.

    Raises:
      ValueError: a gamma does not have one value per output of its layer.
    """
    gamma_of = {
        name: gamma
        for layer, gamma_pattern in layers.items()
        for name, gamma in _gammas(tensors, layer, gamma_pattern).items()
    }
    for name, gamma in gamma_of.items():
        if tensors.shapes[gamma] != tensors.shapes[name][:1]:
            raise ValueError(
                f"{gamma} of shape {tensors.shapes[gamma]} does not fit {name} of shape {tensors.shapes[name]}"
            )

    def read(name: str) -> np.ndarray:
        tensor = tensors.read(name)
        if name not in gamma_of:
            return tensor
        gamma = tensors.read(gamma_of[name])
        return tensor * gamma.reshape(-1, *(1,) * (tensor.ndim - 1))

    gammas = set(gamma_of.values())
    return Tensors({name: shape for name, shape in tensors.shapes.items() if name not in gammas}, read)


def _gammas(tensors: Tensors, layer: str, gamma_pattern: str) -> dict[str, str]:
    """Tensor of `layer` -> its gamma, over all blocks that have one."""
    pattern = re.compile(re.escape(layer).replace(re.escape("{block}"), r"(\d+)") + r"\.(weight|bias)")
    found = {}
    for name in tensors.shapes:
        match = pattern.fullmatch(name)
        gamma = gamma_pattern.replace("{block}", match[1]) if match else ""
        if gamma in tensors.shapes:
            found[name] = gamma
    return found
