"""Read the whole model of a checkpoint, also of a run that trained only a part of it."""

from typing import Any

import jax
import jax.numpy as jnp

from semivit_jax.checkpoints import reading
from semivit_jax.files import Path
from semivit_jax.models.parting import Parting
from semivit_jax.weights import layout

TREES = ("params", "ema_params")
FROZEN = "frozen"  # the parameters that the trees of a checkpoint share


def read(checkpoint: Path, tree: str, parting: Parting) -> dict[str, Any]:
    """Parameters of the whole model, nested, on this host's first device.

    Args:
      checkpoint: a good one.
      tree: 'params' or 'ema_params'.
      parting: of the run that wrote it.
    """
    described = _described(checkpoint, tree), _described(checkpoint, FROZEN)
    arrays = [_nested(reading.restore_arrays(checkpoint, found)) if found else None for found in described]
    return parting.whole(*arrays)


def trees(checkpoint: Path) -> tuple[str, ...]:
    """Which of params and ema_params a checkpoint holds."""
    names = reading.array_shapes(checkpoint)
    return tuple(tree for tree in TREES if any(name.startswith(f"{tree}.") for name in names))


def shapes(checkpoint: Path, tree: str, parting: Parting) -> dict[str, jax.ShapeDtypeStruct]:
    """The same described, by dotted name; no array is read."""
    described = _described(checkpoint, tree), _described(checkpoint, FROZEN)
    return reading.flat(jax.eval_shape(parting.whole, *(_nested(found) if found else None for found in described)))


def _described(checkpoint: Path, tree: str) -> dict[str, jax.ShapeDtypeStruct]:
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here)
        for name, shape in reading.array_shapes(checkpoint).items()
        if name.startswith(f"{tree}.")
    }


def _nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """{'params.head.bias': b} to {'head': {'bias': b}}."""
    return layout.unflatten({name.partition(".")[2].replace(".", "/"): leaf for name, leaf in arrays.items()})
