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
    trained, frozen = _described(checkpoint, tree)
    arrays = reading.restore_known(checkpoint, trained | frozen)  # at once: each reading takes a while to begin
    return parting.whole(*(_nested({name: arrays[name] for name in part}) for part in (trained, frozen)))


def trees(checkpoint: Path) -> tuple[str, ...]:
    """Which of params and ema_params a checkpoint holds."""
    names = reading.array_shapes(checkpoint)
    return tuple(tree for tree in TREES if any(name.startswith(f"{tree}.") for name in names))


def shapes(checkpoint: Path, tree: str, parting: Parting) -> dict[str, jax.ShapeDtypeStruct]:
    """The same described, by dotted name; no array is read."""
    return reading.flat(jax.eval_shape(parting.whole, *map(_nested, _described(checkpoint, tree))))


Described = dict[str, jax.ShapeDtypeStruct]


def _described(checkpoint: Path, tree: str) -> tuple[Described, Described]:
    """(what is trained of a tree, what is frozen), by dotted name."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    found = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here)
        for name, shape in reading.array_shapes(checkpoint).items()
    }
    trained, frozen = (
        {name: leaf for name, leaf in found.items() if name.startswith(f"{prefix}.")} for prefix in (tree, FROZEN)
    )
    return trained, frozen


def _nested(arrays: dict[str, Any]) -> dict[str, Any] | None:
    """{'params.head.bias': b} to {'head': {'bias': b}}; None of nothing."""
    if not arrays:
        return None
    return layout.unflatten({name.partition(".")[2].replace(".", "/"): leaf for name, leaf in arrays.items()})
