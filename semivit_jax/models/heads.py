"""Build the heads that read a backbone's features: the words of config.model.head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models import cost
from semivit_jax.models.cost import Flops
from semivit_jax.models.layers import Dense, gelu, normal_init
from semivit_jax.models.spec import Compute, ModelSpec

HEADS = ("linear", "mlp")
PATHS = r"^head(_hidden)?/"


def layers_of(spec: ModelSpec, compute: Compute, width: int) -> tuple[nn.Module | None, nn.Module]:
    """The hidden layer of an mlp, as wide as the features (None of a linear head), and the layer that gives logits."""
    hidden = Dense(width, kernel_init=normal_init) if spec.head == "mlp" else None
    return hidden, Dense(spec.num_classes, kernel_init=nn.initializers.normal(compute.head_init_std))


def logits(hidden: nn.Module | None, last: nn.Module, features: jax.Array) -> jax.Array:
    """Logits of features (batch, width), in at least float32; the exact GELU follows a hidden layer."""
    x = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    return last(x if hidden is None else gelu(hidden(x), None))


def flops(spec: ModelSpec, width: int) -> Flops:
    """Of one image; 0 without classes."""
    last = cost.matmul(1, width, spec.num_classes)
    return last + cost.matmul(1, width, width) if spec.num_classes and spec.head == "mlp" else last
