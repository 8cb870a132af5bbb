"""Let a device multiply matrices and attend, compare with float64 on the host, and time it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models.layers import attend

REPEATS = 5  # of which the fastest counts
ROWS = 64  # of a product, that are compared


class Checked(NamedTuple):
    """What one operation did: on what, its error relative to the largest number, the bound on it, and its speed."""

    what: str
    error: float
    bound: float
    flops_per_second: float

    @property
    def right(self) -> bool:
        return self.error <= self.bound  # of NaN, too, this is False


def checks(backend: str) -> dict[str, Callable[[], Checked]]:
    """Name -> check, of sizes that a backend ('cpu', 'gpu' or 'tpu') does in well under a second."""
    if backend == "cpu":
        return {
            "matmul": lambda: matmul(1024, "float32"),
            "attention, xla": lambda: attention(8, "float32", "xla"),
        }
    found = {
        "matmul": lambda: matmul(8192, "bfloat16"),
        "attention, xla": lambda: attention(256, "bfloat16", "xla"),
    }
    return found | ({"attention, cudnn": lambda: attention(256, "bfloat16", "cudnn")} if backend == "gpu" else {})


def matmul(size: int, dtype: str) -> Checked:
    """Multiplies two (size, size) matrices of `dtype`."""
    left, right = (jnp.asarray(_normal(seed, (size, size)), dtype) for seed in range(2))
    seconds, product = _timed(jax.jit(jnp.matmul), left, right)
    expected = np.asarray(left[:ROWS], np.float64) @ np.asarray(right, np.float64)
    error = _error(product[:ROWS], expected)
    return Checked(f"{size} x {size}, {dtype}", error, _bound(dtype), 2 * size**3 / seconds)


def attention(batch: int, dtype: str, implementation: str) -> Checked:
    """Attends as a ViT-B/16 does: 197 tokens, 12 heads of 64; `implementation` is 'xla' or 'cudnn'."""
    shape = (batch, 197, 12, 64)
    query, key, value = (jnp.asarray(_normal(seed, shape), dtype) for seed in range(3))
    seconds, out = _timed(jax.jit(lambda q, k, v: attend(q, k, v, implementation)), query, key, value)
    first = [np.asarray(x[0], np.float64).swapaxes(0, 1) for x in (query, key, value)]  # (heads, tokens, head_dim)
    logits = first[0] @ first[1].swapaxes(1, 2) / np.sqrt(shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    expected = (weights / weights.sum(-1, keepdims=True) @ first[2]).swapaxes(0, 1)
    flops = 4 * batch * shape[1] ** 2 * shape[2] * shape[3]
    error = _error(out[0], expected)
    return Checked(f"{batch} images of 197 tokens, {dtype}", error, _bound(dtype), flops / seconds)


def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _timed(function: Callable[..., jax.Array], *arguments: jax.Array) -> tuple[float, jax.Array]:
    """(seconds of the fastest call, what it returns); the call that compiles does not count."""
    out = function(*arguments).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        out = function(*arguments).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), out


def _error(found: jax.Array, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())


def _bound(dtype: str) -> float:
    """Rounding of the result in bfloat16; in float32 GPUs and TPUs may round the factors to 10 or 8 bits."""
    return 1e-2 if dtype == "bfloat16" or jax.default_backend() != "cpu" else 1e-5
