"""cuDNN's attention against the plain path, before anything relies on it: right first, then how fast."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import median_seconds
from semivit_jax.models.layers import attend

# (images, tokens, heads, head dimension) of ViT-B, ViT-L, ViT-H and both halves of the MAE.
PUBLISHED = ((96, 197, 12, 64), (64, 197, 16, 64), (48, 257, 16, 80), (256, 50, 16, 64), (256, 197, 16, 32))
TINY = ((2, 17, 2, 8),)
WORST_ERROR = 0.02  # of the norm; bfloat16 factors leave 0.001 to 0.01
REPEATS = 10


def check_attention(*, accelerator: bool) -> dict[str, Any]:
    """Errors of output and gradients against float32, and seconds forward and backward, per shape and path.

    `trusted` says whether cuDNN ran on every shape within `WORST_ERROR`; on a CPU only the plain path is looked at.
    """
    kernels = ("xla", "cudnn") if accelerator else ("xla",)
    shapes = [
        {"shape": shape, **{kernel: one_shape(shape, kernel) for kernel in kernels}}
        for shape in (PUBLISHED if accelerator else TINY)
    ]
    errors = [found["error"] for shape in shapes for found in (shape[kernel] for kernel in kernels)]
    return {"shapes": shapes, "trusted": all(error <= WORST_ERROR for error in errors)}


def one_shape(shape: tuple[int, ...], kernel: str) -> dict[str, float]:
    """Largest relative error of output and gradients, and median seconds of both passes, in bfloat16."""
    *factors, weights = (jax.random.normal(jax.random.key(i), shape, jnp.float32) for i in range(4))
    rounded = [x.astype(jnp.bfloat16) for x in factors]

    @functools.partial(jax.jit, static_argnums=0)
    def both_passes(kernel: str, *qkv: jax.Array) -> tuple[jax.Array, ...]:
        out, back = jax.vjp(lambda query, key, value: attend(query, key, value, kernel), *qkv)
        return out, *back(weights.astype(out.dtype))

    with jax.default_matmul_precision("highest"):
        exact = both_passes("xla", *(x.astype(jnp.float32) for x in rounded))
    found = both_passes(kernel, *rounded)
    errors = [float(relative_error(a, b)) for a, b in zip(found, exact, strict=True)]
    seconds = median_seconds(lambda: both_passes(kernel, *rounded), repeats=REPEATS)
    # A comparison with NaN is false, so NaN is never within a limit; max() alone could pass it over.
    worst = max(errors) if all(error == error for error in errors) else float("nan")
    return {"error": worst, "seconds": seconds}


def relative_error(found: jax.Array, exact: jax.Array) -> jax.Array:
    """|found - exact| / |exact|, Euclidean norms in float32."""
    difference = found.astype(jnp.float32) - exact.astype(jnp.float32)
    return jnp.linalg.norm(difference.ravel()) / jnp.linalg.norm(exact.astype(jnp.float32).ravel())
