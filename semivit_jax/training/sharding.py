"""Make the device mesh, and place batches and state on it."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from semivit_jax.config import ConfigError
from semivit_jax.hosts.devices import slices_of
from semivit_jax.models.families import is_stacked
from semivit_jax.ops.optim import path_name
from semivit_jax.words import counted

PyTree = Any
ROWS = ("data", "fsdp")  # every batch is spread over all devices, whatever the mesh's shape
SMALLEST_SHARDED = 2**14  # elements; biases and norms are cheaper to copy than to gather


def make_mesh(fsdp: int, devices: list[Any] | None = None) -> Mesh:
    """Mesh (data, fsdp) over all devices, hosts in order, so that host p holds rows [p*b, (p+1)*b) of a batch.

    Devices that share a copy of the parameters are neighbours in that order, so the copy lies inside a slice: what
    slices tell each other is sums. `jax.experimental.mesh_utils` would order the devices of a slice by its torus, and
    not by host.

    Args:
      fsdp: devices that share one copy of the parameters.
      devices: all devices of all hosts by default.

    Raises:
      ConfigError: the devices cannot be shared so.
    """
    devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
    check_fsdp(fsdp, slices_of(devices), platform=devices[0].platform)
    # Auto axes: the default, Explicit, refuses the gathers of masking and mixing.
    return Mesh(np.array(devices).reshape(-1, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def check_fsdp(fsdp: int, slices: Sequence[int], *, platform: str) -> None:
    """Refuses what does not divide the devices, or cuts parameters across TPU slices.

    The network between hosts with GPUs may be as fast as their links, which nothing tells here, so there it may take
    several of them, which `across_slices` warns of.

    Args:
      fsdp: config.mesh.fsdp.
      slices: the slice of each device, in the mesh's order.
      platform: jax platform of the devices.

    Raises:
      ConfigError: names the legal values.
    """
    legal = _legal_fsdp(slices, across=platform != "tpu")
    if fsdp not in legal:
        count = len(set(slices))
        where = f" in {count} slices" if count > 1 else ""
        raise ConfigError(f"config.mesh.fsdp is {fsdp}; on {counted(len(slices), 'device')}{where}, legal are {legal}")


def across_slices(mesh: Mesh) -> str:
    """A warning where parameters are cut across slices, "" elsewhere."""
    fsdp, inside = mesh.shape["fsdp"], _legal_fsdp(slices_of(mesh.devices.flat), across=False)
    if fsdp in inside:
        return ""
    return (
        f"config.mesh.fsdp is {fsdp}: weights are gathered over the network between hosts, which wants to be as fast "
        f"as the links inside; inside one are {inside}"
    )


def _legal_fsdp(slices: Sequence[int], *, across: bool) -> list[int]:
    """Values with which each copy of the parameters lies inside a slice, or, `across` slices, on whole ones."""
    count, largest = len(slices), max(collections.Counter(slices).values())

    def legal(fsdp: int) -> bool:
        inside = all(len(set(slices[first : first + fsdp])) == 1 for first in range(0, count, fsdp))
        return inside or (across and fsdp % largest == 0)

    return [fsdp for fsdp in range(1, count + 1) if count % fsdp == 0 and legal(fsdp)]


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def train_batch(mesh: Mesh) -> NamedSharding:
    """Leaves [accum, rows, ...]."""
    return NamedSharding(mesh, PartitionSpec(None, ROWS))


def eval_batch(mesh: Mesh) -> NamedSharding:
    """Leaves [rows, ...]."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def put(batch: PyTree, sharding: NamedSharding) -> PyTree:
    """This host's rows, numpy -> global arrays."""
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)


def state_shardings(mesh: Mesh, abstract_state: PyTree) -> PyTree:
    """A sharding per leaf of the described state: along one dimension over `fsdp`, replicated where small.

    The dimension is the largest one that divides; the layer axis of stacked blocks is never cut, since
    the scan over depth slices it. What a pseudo-label rule remembers is whole on every device: it is read and written
    by the places of images and classes, which a cut would send around.
    """
    fsdp = mesh.shape["fsdp"]

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = path_name(path)
        first = 1 if is_stacked(name) else 0
        sizes = {axis: n for axis, n in enumerate(leaf.shape) if axis >= first and n % fsdp == 0}
        whole = fsdp == 1 or math.prod(leaf.shape) < SMALLEST_SHARDED or name.partition("/")[0] == "policy_state"
        if whole or not sizes:
            return replicated(mesh)
        axis = max(sizes, key=lambda a: sizes[a])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree_util.tree_map_with_path(place, abstract_state)
