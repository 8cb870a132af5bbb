"""What the estimate says is kept for the backward pass is what jax keeps, array by array."""

import math

import jax
import jax.numpy as jnp
import pytest

from semivit_jax.models import families
from semivit_jax.models.spec import Compute
from semivit_jax.preflight.memory import device_stacks
from tests.models import spec_of

PIXELS = 64


def residual_bytes(variant: str, remat: str, images: int) -> int:
    """Of everything that the backward pass of a network starts from."""
    spec = spec_of(variant, image_size=PIXELS)
    compute = Compute(dtype=jnp.bfloat16, attention="xla", remat=remat, unroll=1, head_init_std=0.01)
    network = families.network(spec, compute, 0.1)
    params = jax.eval_shape(network.init, jax.random.key(0))
    seen = jax.ShapeDtypeStruct((images, PIXELS, PIXELS, 3), jnp.bfloat16)
    masks = jax.ShapeDtypeStruct((*network.drop_path_rates.shape, images), jnp.bfloat16)

    def backward(params, seen, masks):
        return jax.vjp(lambda params: network.logits(params, seen, masks), params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, params, seen, masks))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


# Of widths that are whole lanes; of ViTs with remat=dots more is counted than is kept.
@pytest.mark.parametrize(
    ("variant", "remat"),
    [*(("convnext_base", remat) for remat in ("none", "dots", "full")), ("vit_b16", "none"), ("vit_b16", "full")],
)
def test_an_image_keeps_the_arrays_that_are_counted(variant, remat):
    of_one = residual_bytes(variant, remat, 3) - residual_bytes(variant, remat, 2)
    cost = families.cost(spec_of(variant, image_size=PIXELS))
    assert cost is not None
    counted = sum(stack.saved(remat) for stack in device_stacks(cost, 1, itemsize=2))
    assert of_one == pytest.approx(counted + 2 * 3 * PIXELS**2, rel=0.02)
