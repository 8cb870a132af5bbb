"""Train low-rank additions to frozen matrices: LoRA (Hu et al. 2021)."""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.linen.module import InterceptorContext

from semivit_jax.config import ConfigError
from semivit_jax.models.gather import whole as gathered
from semivit_jax.models.layers import fan_in_uniform
from semivit_jax.models.parting import Params, Parting, Parts, apart, flatten, together, unflatten
from semivit_jax.ops import rng

A, B = "lora_a", "lora_b"
ADAPTERS = r"/lora_[ab]$"


def parting(rank: int, alpha: float, matrices: str, head: str) -> Parting:
    """Trains the head, and a pair A (..., in, rank), B (..., rank, out) beside every chosen kernel (..., in, out).

    The model computes with kernel + alpha / rank * A B. A starts uniform within 1 / sqrt(in), B at zero, so that the
    model starts as it was (section 4.1 of the paper, which draws A from a normal distribution).

    Args:
      rank: of the additions.
      alpha: see above.
      matrices: pattern of the paths of kernels.
      head: pattern of the paths that are trained as they are.
    """

    def split(params: Params, key: jax.Array) -> tuple[Params, Params]:
        trained, frozen = apart(params, lambda path: bool(re.search(head, path)))
        added = {}
        for path, kernel in flatten(frozen).items():
            if re.search(matrices, path):
                _check_rank(rank, path, kernel)
                *layers, inner, outer = kernel.shape
                place = path.removesuffix("kernel")
                init = fan_in_uniform(inner)
                added[place + A] = init(rng.stream(key, path), (*layers, inner, rank), kernel.dtype)
                added[place + B] = jnp.zeros((*layers, rank, outer), kernel.dtype)
        return together(trained, unflatten(added)), frozen

    def merged(trained: Params, frozen: Params | None) -> Params:
        flat = flatten(together(trained, frozen))
        model = {path: leaf for path, leaf in flat.items() if not re.search(ADAPTERS, path)}
        for place in (path.removesuffix(A) for path in flat if path.endswith(A)):
            product = jnp.matmul(flat[place + A], flat[place + B], precision="highest")
            model[f"{place}kernel"] = model[f"{place}kernel"] + alpha / rank * product
        return unflatten(model)

    return Parting(split, merged)


def _check_rank(rank: int, path: str, kernel: Any) -> None:
    """Raises ConfigError where an addition would be larger than what a matrix itself can hold."""
    most = min(kernel.shape[-2:])
    if rank > most:
        raise ConfigError(f"config.model.lora_rank is {rank}; {path} of this model has rank {most} at most")


def computing(logits: Callable[..., jax.Array], scale: float) -> Callable[..., jax.Array]:
    """A network's `logits` for `Parts` with additions, which are computed beside their kernels and never merged.

    So only the additions have a gradient: that of a merged kernel would be as large as the kernel.

    Args:
      logits: (params, images, drop-path masks) -> (batch, classes).
      scale: alpha / rank.
    """

    def beside(dense: Callable[..., jax.Array], args: Any, kwargs: Any, context: InterceptorContext):
        out, module = dense(*args, **kwargs), context.module
        if not module.has_variable("params", A):
            return out
        a, b = module.get_variable("params", A), module.get_variable("params", B)
        x, a, b = promote_dtype(*args, a, b, dtype=module.dtype)  # pyright: ignore
        return out + scale * ((x @ gathered(a)) @ gathered(b))

    def compute(parts: Parts, images: jax.Array, drop_path_masks: jax.Array | None) -> jax.Array:
        with nn.intercept_methods(beside):
            return logits(together(*parts), images, drop_path_masks)

    return compute
