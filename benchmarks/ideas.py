"""Ideas of docs/performance.md as small changes of the model: those that were kept, undone, and those not yet judged.

`applied(name)` is a context; a step that is traced inside has the change. It replaces what a module of
`semivit_jax.models` calls, so the model itself knows nothing of ideas.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models import layers, mae, vit
from semivit_jax.models.gather import promote_whole

Patch = tuple[Any, str, Any]
"""(module, name in it, what stands there instead)."""


@contextlib.contextmanager
def applied(name: str) -> Iterator[None]:
    """Traces inside have the change of that name; '' stands for none.

    Raises:
      ValueError: no idea has this name.
    """
    if name and name not in IDEAS:
        raise ValueError(f"idea is {name!r}; legal values: {', '.join(IDEAS)}")
    with contextlib.ExitStack() as stack:
        for module, attribute, changed in IDEAS[name]() if name else ():
            stack.enter_context(mock.patch.object(module, attribute, changed))
        jax.clear_caches()  # what was traced before the change, or with it, is not looked at again
        stack.callback(jax.clear_caches)
        yield


def keep_attention() -> tuple[Patch, ...]:
    """The plain path keeps logits and probabilities for the backward pass."""

    def attend(query: jax.Array, key: jax.Array, value: jax.Array, implementation: str) -> jax.Array:
        plain = implementation == "xla"
        return layers._attend_plain(query, key, value) if plain else layers._attend_cudnn(query, key, value)

    return ((layers, "attend", attend),)


def keep_norm_and_gelu() -> tuple[Patch, ...]:
    """LayerNorm and GELU keep what their derived gradients ask for."""

    def layer_norm(eps: float, dtype: jnp.dtype | None, name: str | None = None) -> nn.LayerNorm:
        return nn.LayerNorm(epsilon=eps, dtype=dtype, name=name)

    def gelu(x: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
        del dtype
        return jax.nn.gelu(x, approximate=False)

    return ((layers, "gelu", gelu), *((module, "layer_norm", layer_norm) for module in (layers, mae, vit)))


def keep_everything() -> tuple[Patch, ...]:
    """Both."""
    return keep_attention() + keep_norm_and_gelu()


def float32_attention_gradient() -> tuple[Patch, ...]:
    """The derived gradient of `q k'` multiplies a float32 cotangent."""

    def logits(query: jax.Array, key: jax.Array) -> jax.Array:
        wide = jnp.promote_types(query.dtype, jnp.float32)
        return jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)

    return ((layers, "_attention_logits", logits),)


def scattering_unshuffle() -> tuple[Patch, ...]:
    """MAE: the derived gradient of putting patches back in order."""

    def unshuffle(x: jax.Array, restore_ids: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, restore_ids[:, :, None], axis=1)

    return ((mae, "_unshuffle", unshuffle),)


def three_products() -> tuple[Patch, ...]:
    """Query, key and value as three products of the same parameters, so that no slice of one is copied."""
    return ((layers, "Attention", _AttentionInThree),)


class _AttentionInThree(layers.Attention):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:2], self.num_heads, x.shape[-1] // self.num_heads)
        projected = _Thirds(self.kernel_init, self.dtype, name="qkv")(x)
        query, key, value = (each.reshape(heads) for each in projected)
        out = layers.attend(query, key, value, self.implementation).reshape(x.shape)
        return layers.Dense(x.shape[-1], kernel_init=self.kernel_init, dtype=self.dtype, name="proj")(out)


class _Thirds(nn.Module):
    """The parameters of the fused projection, each third of them multiplied by itself."""

    kernel_init: layers.Initializer
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        width = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros, (3 * width,))
        x, kernel, bias = promote_whole(x, kernel, bias, dtype=self.dtype)
        assert bias is not None  # one went in
        parts = zip(jnp.split(kernel, 3, axis=1), jnp.split(bias, 3), strict=True)
        return [x @ part + shift for part, shift in parts]


IDEAS: dict[str, Callable[[], tuple[Patch, ...]]] = {
    idea.__name__: idea
    for idea in (
        keep_attention,
        keep_norm_and_gelu,
        keep_everything,
        float32_attention_gradient,
        scattering_unshuffle,
        three_products,
    )
}
