"""Build the layers that several models share; masks come in from outside, nothing is drawn."""

import functools
from collections.abc import Callable
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models.gather import promote_whole, spread
from semivit_jax.models.spec import Compute

LAYER_SCALE_INIT = 1e-5  # DINOv2's (Oquab et al. 2023, table 16)
LAYER_NORM_EPS = 1e-6  # of the ViT and MAE papers' code; models of Hugging Face may have 1e-12

Initializer = Callable[..., jax.Array]
normal_init = nn.initializers.normal(0.02)  # published with a truncation at +-2 absolute, which never acts
xavier_init = nn.initializers.xavier_uniform()  # MAE's
Dense = functools.partial(nn.Dense, promote_dtype=promote_whole)  # pyright: ignore[reportArgumentType]


def fan_in_uniform(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): the patch embedding's default, kernel and bias alike."""
    limit = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


_LayerNormKeepingItsInput = nn.remat(nn.LayerNorm, prevent_cse=False)  # the barrier is for code outside of scans


def layer_norm(eps: float, dtype: jnp.dtype | None, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm whose backward pass starts from its input in bfloat16; otherwise it keeps three arrays in float32."""
    return (nn.LayerNorm if dtype is None else _LayerNormKeepingItsInput)(epsilon=eps, dtype=dtype, name=name)


def gelu(x: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """The exact GELU x Phi(x). In bfloat16 its backward pass starts from its input; otherwise it keeps three arrays."""
    if dtype is None:
        return _gelu_by_erf(x)
    return jax.checkpoint(functools.partial(jax.nn.gelu, approximate=False), prevent_cse=False)(x)


def _gelu_by_erf(x: jax.Array) -> jax.Array:
    """x / 2 (1 + erf(x / sqrt 2)), as PyTorch computes it.

    `jax.nn.gelu` takes erfc, which keeps small digits of the left tail that bfloat16 needs; its two polynomials, its
    exponential and the choice between them cost a small MLP a sixth of its time on a CPU (docs/performance.md).
    """
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def quick_gelu(x: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """x sigmoid(1.702 x), the sigmoid form of GELU (Hendrycks and Gimpel 2016, section 2); keeps what `gelu` does."""
    return _keeping_its_input(lambda x: x * jax.nn.sigmoid(1.702 * x), dtype)(x)


def gelu_tanh(x: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """The tanh form of GELU (Hendrycks and Gimpel 2016, section 2); keeps what `gelu` does."""
    return _keeping_its_input(functools.partial(jax.nn.gelu, approximate=True), dtype)(x)


def _keeping_its_input(activation: Callable[[jax.Array], jax.Array], dtype: jnp.dtype | None):
    return activation if dtype is None else jax.checkpoint(activation, prevent_cse=False)


def attend(query: jax.Array, key: jax.Array, value: jax.Array, implementation: str) -> jax.Array:
    """softmax(q k' / sqrt(head_dim)) v; all (batch, tokens, heads, head_dim). `implementation` is 'xla' or 'cudnn'.

    Neither keeps an array of (tokens, tokens) for the backward pass in bfloat16: the plain path computes it again.
    """
    if implementation == "cudnn":
        return _attend_cudnn(query, key, value)
    if query.dtype == jnp.bfloat16:
        return jax.checkpoint(_attend_plain, prevent_cse=False)(query, key, value)
    return _attend_plain(query, key, value)


def _attend_plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Keeps the softmax in at least float32 and never narrows float64.

    `jax.nn.dot_product_attention` does: it casts to float32, an error of 4e-9 in float64 parity runs.
    """
    logits = _attention_logits(query, key)
    probs = jax.nn.softmax(logits * query.shape[-1] ** -0.5, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", probs, value)


def _attend_cudnn(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """cuDNN's fused attention, as the library calls it; an odd number of tokens is padded to the next even one.

    Only attention with a bias needs an even number, but jax (0.10.2 and 0.11.2) counts its own empty placeholder as
    a bias and refuses to differentiate odd ones, 197 and 257 among them. The padding is no key to any query.
    """
    tokens = query.shape[1]
    if tokens % 2 == 0:
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    query, key, value = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (query, key, value))
    # On several devices each needs the lengths of its own images, which the kernel does not ask for by itself.
    lengths = spread(jnp.full(query.shape[:1], tokens, jnp.int32))
    out = jax.nn.dot_product_attention(
        query, key, value, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation="cudnn"
    )
    return out[:, :tokens]


@jax.custom_vjp
def _attention_logits(query: jax.Array, key: jax.Array) -> jax.Array:
    """q k' accumulated and returned in at least float32, (batch, heads, queries, keys).

    Its own gradient, because the derived one multiplies the float32 cotangent with bfloat16 factors: a
    float32 matrix product, at a fraction of the speed. Here the cotangent is rounded to their type first.
    """
    logits_dtype = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=logits_dtype)


def _attention_logits_forward(query: jax.Array, key: jax.Array):
    return _attention_logits(query, key), (query, key)


def _attention_logits_backward(factors: tuple[jax.Array, jax.Array], cotangent: jax.Array):
    query, key = factors
    cotangent = cotangent.astype(query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", cotangent, key), jnp.einsum("bhqk,bqhd->bkhd", cotangent, query)


_attention_logits.defvjp(_attention_logits_forward, _attention_logits_backward)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection, (batch, tokens, width) -> same."""

    num_heads: int
    kernel_init: Initializer
    dtype: jnp.dtype | None
    implementation: str  # 'xla' or 'cudnn'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        qkv = Dense(3 * width, kernel_init=self.kernel_init, dtype=self.dtype, name="qkv")(x)
        qkv = qkv.reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = (qkv[:, :, i] for i in range(3))
        out = attend(query, key, value, self.implementation)
        out = out.reshape(batch, tokens, width)
        return Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name="proj")(out)


class Mlp(nn.Module):
    """Two layers with an activation between them, the exact (erf) GELU."""

    mlp_dim: int
    kernel_init: Initializer
    dtype: jnp.dtype | None
    activation: Callable[[jax.Array, jnp.dtype | None], jax.Array] = gelu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = Dense(self.mlp_dim, kernel_init=self.kernel_init, dtype=self.dtype, name="fc1")(x)
        h = self.activation(h, self.dtype)
        return Dense(x.shape[-1], kernel_init=self.kernel_init, dtype=self.dtype, name="fc2")(h)


class SwiGlu(nn.Module):
    """Gated MLP (Shazeer 2020, eq. 6): `fc1` gives gate and value, joined; `fc2` reads silu(gate) * value."""

    mlp_dim: int  # of the gate, and of the value
    kernel_init: Initializer
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = Dense(2 * self.mlp_dim, kernel_init=self.kernel_init, dtype=self.dtype, name="fc1")(x)
        gate, value = jnp.split(h, 2, axis=-1)
        h = jax.nn.silu(gate) * value
        return Dense(x.shape[-1], kernel_init=self.kernel_init, dtype=self.dtype, name="fc2")(h)


MLPS: dict[str, Callable[..., nn.Module]] = {
    "gelu": Mlp,
    "swiglu": SwiGlu,
    "quick_gelu": functools.partial(Mlp, activation=quick_gelu),
    "gelu_tanh": functools.partial(Mlp, activation=gelu_tanh),
}


class LayerScale(nn.Module):
    """One learned factor per channel of a branch (Touvron et al. 2021, CaiT, eq. 8)."""

    @nn.compact
    def __call__(self, branch: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.constant(LAYER_SCALE_INIT), (branch.shape[-1],))
        return branch * gamma.astype(branch.dtype)


class Block(nn.Module):
    """Pre-norm transformer block (Dosovitskiy et al. 2021, eq. 2 and 3) with stochastic depth."""

    num_heads: int
    mlp_dim: int
    kernel_init: Initializer
    dtype: jnp.dtype | None
    attention: str
    layer_norm_eps: float = LAYER_NORM_EPS
    mlp: str = "gelu"  # a row of MLPS
    layer_scale: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, drop_path_mask: jax.Array | None) -> tuple[jax.Array, None]:
        """x (batch, tokens, width); drop_path_mask (2, batch), one row per branch, or None.

        Returns (x, None), the carry and the empty per-layer output that `nn.scan` asks for.
        """
        attention = Attention(self.num_heads, self.kernel_init, self.dtype, self.attention, name="attn")
        mlp = MLPS[self.mlp](self.mlp_dim, self.kernel_init, self.dtype, name="mlp")
        for row, branch in enumerate((attention, mlp)):
            h = branch(layer_norm(self.layer_norm_eps, self.dtype, f"norm{row + 1}")(x))
            h = LayerScale(name=f"ls{row + 1}")(h) if self.layer_scale else h
            x = x + masked(h, drop_path_mask, row)
        return x, None


def masked(branch: jax.Array, mask: jax.Array | None, row: int) -> jax.Array:
    """A branch (batch, tokens, width) with stochastic depth: times a row of the mask (rows, batch), if there is one."""
    return branch if mask is None else branch * mask[row].astype(branch.dtype)[:, None, None]


REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Blocks(Protocol):
    """Sizes of a stack: those of an encoder, or a decoder's."""

    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def mlp_dim(self) -> int: ...
    @property
    def mlp(self) -> str: ...
    @property
    def layer_scale(self) -> bool: ...


def stacked_blocks(
    size: Blocks, compute: Compute, *, kernel_init: Initializer, layer_norm_eps: float, name: str | None = None
) -> nn.Module:
    """Blocks scanned over a leading layer axis, called with (x, masks (depth, 2, batch) or None)."""
    return scanned(Block, size.depth, compute)(
        size.num_heads,
        size.mlp_dim,
        kernel_init,
        compute.dtype,
        compute.attention,
        layer_norm_eps,
        size.mlp,
        size.layer_scale,
        name=name,
    )


def scanned(block: type[nn.Module], depth: int, compute: Compute) -> type[nn.Module]:
    """`depth` blocks as one module, made with a block's arguments; its parameters and masks have a leading axis.

    A block takes (x, mask of one block) and gives (x, None).
    """
    if compute.remat != "none":
        block = nn.remat(block, prevent_cse=False, policy=REMAT_POLICIES[compute.remat])
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=0,
        length=depth,
        unroll=compute.unroll,
    )
