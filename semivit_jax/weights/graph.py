"""Define the Writer with which families write their ONNX graphs, and helpers for dense and norm."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from semivit_jax.models.layers import LAYER_NORM_EPS

PIXELS = "images"  # name of the graph's input, uint8 (batch, size, size, 3)

Params = Mapping[str, np.ndarray]
"""Arrays by "/"-joined path."""


class Writer(Protocol):
    """Collects a graph; every method returns the name of what it adds."""

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output."""
        ...

    def weight(self, name: str, array: np.ndarray) -> str:
        """Stores an array as float32."""
        ...

    def constant(self, values: Sequence[int] | Sequence[float]) -> str:
        """Adds a small vector: int64 for integers, float32 otherwise."""
        ...

    def dense(self, x: str, name: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Adds x @ kernel + bias over the last axis; kernel (in, out)."""
        ...

    def layer_norm(self, x: str, name: str, scale: np.ndarray, bias: np.ndarray, *, eps: float) -> str:
        """Adds LayerNorm over the last axis."""
        ...

    def conv(self, x: str, name: str, kernel: np.ndarray, bias: np.ndarray, **attributes: Any) -> str:
        """Adds a convolution of (batch, channels, height, width); kernel (h, w, in, out)."""
        ...


def under(params: Params, prefix: str, block: int | None = None) -> dict[str, np.ndarray]:
    """Arrays below a path prefix, of one block of the stack where a number is given."""
    cut = {path.removeprefix(prefix): array for path, array in params.items() if path.startswith(prefix)}
    return cut if block is None else {path: array[block] for path, array in cut.items()}


def dense(writer: Writer, x: str, name: str, params: Params, layer: str) -> str:
    """Adds the linear layer at a path of params."""
    return writer.dense(x, f"{name}.{layer}", params[f"{layer}/kernel"], params[f"{layer}/bias"])


def norm(writer: Writer, x: str, name: str, params: Params, layer: str, *, eps: float = LAYER_NORM_EPS) -> str:
    """Adds the LayerNorm at a path of params."""
    scale, bias = params[f"{layer}/scale"], params[f"{layer}/bias"]
    return writer.layer_norm(x, f"{name}.{layer}", scale, bias, eps=eps)
