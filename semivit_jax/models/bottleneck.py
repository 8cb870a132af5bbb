"""Train small layers beside the MLPs of frozen blocks: AdaptFormer (Chen et al. 2022)."""

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.linen.module import InterceptorContext

from semivit_jax.config import ConfigError
from semivit_jax.models.gather import whole as gathered
from semivit_jax.models.parting import Params, flatten, unflatten
from semivit_jax.models.spec import Bottleneck
from semivit_jax.ops import rng

DOWN, UP = "bottleneck_down", "bottleneck_up"
PATHS = r"/bottleneck_(down|up)$"
down_init = nn.initializers.he_normal()


def inserted(params: Params, added: Bottleneck, mlps: str, key: jax.Array) -> Params:
    """A model's parameters with W_down (depth, width, rank) and W_up (depth, rank, width) beside its MLPs.

    W_down is drawn as Kaiming does and W_up is zero (section 3.2 of the paper), so that the model starts as it was.

    Args:
      params: of the model without them.
      added: what is added.
      mlps: path of the stacked MLPs.
      key: for W_down.

    Raises:
      ConfigError: a rank above the width, which adds nothing to one of the width.
    """
    flat = flatten(params)
    kernel = flat[f"{mlps}/fc1/kernel"]
    depth, width = kernel.shape[:2]
    if added.rank > width:
        raise ConfigError(f"config.model.lora_rank is {added.rank}; the blocks of this model are {width} wide")
    draw = jax.vmap(lambda k: down_init(k, (width, added.rank), kernel.dtype))
    flat[f"{mlps}/{DOWN}"] = draw(jax.random.split(rng.stream(key, f"{mlps}/{DOWN}"), depth))
    flat[f"{mlps}/{UP}"] = jnp.zeros((depth, added.rank, width), kernel.dtype)
    return unflatten(flat)


def computing(added: Bottleneck | None) -> contextlib.AbstractContextManager:
    """Has MLPs that have such layers add scale * ReLU(x W_down) W_up to what they give (equations 2 and 3).

    x is what the MLP reads, after LayerNorm. Biases, of which the equations have none, are left out.
    """
    if added is None:
        return contextlib.nullcontext()

    def beside(mlp: Callable[..., jax.Array], args: Any, kwargs: Any, context: InterceptorContext):
        out, module = mlp(*args, **kwargs), context.module
        if not module.has_variable("params", DOWN):
            return out
        down, up = module.get_variable("params", DOWN), module.get_variable("params", UP)
        x, down, up = promote_dtype(*args, down, up, dtype=module.dtype)  # pyright: ignore
        return out + added.scale * (jax.nn.relu(x @ gathered(down)) @ gathered(up))

    return nn.intercept_methods(beside)
