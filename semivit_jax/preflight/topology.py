"""Look up slices and hosts by name, and describe their devices; needs no accelerator."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
from typing import Any

from semivit_jax.preflight.chips import CHIPS, Chip

# For libtpu on a machine that is no TPU VM; read when it is loaded.
LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # else it asks a metadata server that is not there, and waits for minutes
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # it locks itself to one process for the sake of chips that are never touched
    # What the server would have said; any legal values, they only keep complaints off the terminal.
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}


class TopologyError(ValueError):
    """A topology that is not known or cannot be described; the message says what is legal."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """TPU slices or GPU hosts of one kind, as asked for.

    Attributes:
      name: of one, such as 'v5e:16x16' or 'gpu:8xH100'.
      chip: of every device.
      shape: sides of a slice's torus; (devices,) for GPUs.
      slices: how many there are, joined by a network that is slower than their own links; for GPUs, hosts.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    slices: int

    @property
    def devices_per_slice(self) -> int:
        return math.prod(self.shape)

    @property
    def num_devices(self) -> int:
        return self.slices * self.devices_per_slice

    @property
    def compilable(self) -> bool:
        """Whether this machine can compile for it: TPU slices, where libtpu is installed."""
        return self.chip.platform == "tpu" and libtpu_installed()

    @property
    def why_not_compilable(self) -> str:
        """Said beside an analytic answer; empty for a topology that can be compiled for."""
        if self.chip.platform != "tpu":
            return "there is no ahead-of-time compiler for GPUs on a machine without one"
        if libtpu_installed():
            return ""
        return (
            "libtpu is not installed; pip install -c requirements/constraints.txt '.[plan]' brings it. "
            "Shape not checked: only it knows them"
        )


def parse(text: str, *, slices: int) -> Topology:
    """'v5e:4x4', 'v4:4x4x4' or 'gpu:8xH100', the latter in lower case too; `slices` of them.

    Raises:
      TopologyError: for another form, an unknown chip, a slice of the wrong dimension, or fewer than one of them.
    """
    if slices < 1:
        raise TopologyError(f"--slices={slices}; legal is a whole number from 1: slices, or hosts with GPUs")
    kind, _, size = text.partition(":")
    if kind.lower() == "gpu":
        found = re.fullmatch(r"([1-9]\d*)x(\w+)", size)
        chip = CHIPS.get(found[2].upper()) if found else None
        if not found or chip is None or chip.platform != "gpu":
            raise TopologyError(f"topology {text!r}: write gpu:NUMBERxCHIP with a chip of {_names('gpu')}")
        return Topology(f"gpu:{found[1]}x{chip.name}", chip, (int(found[1]),), slices)
    chip = CHIPS.get(kind)
    if chip is None or chip.platform != "tpu":
        raise TopologyError(f"topology {text!r}: unknown TPU {kind!r}; legal: {_names('tpu')}, or gpu:8xH100")
    sides = "x".join(["4"] * chip.dims)
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", size) or size.count("x") + 1 != chip.dims:
        raise TopologyError(f"topology {text!r}: a {kind} slice has {chip.dims} sides, as in {kind}:{sides}")
    return Topology(text, chip, tuple(int(side) for side in size.split("x")), slices)


def libtpu_installed() -> bool:
    return importlib.util.find_spec("libtpu") is not None


def libtpu_version() -> str:
    """Version of the TPU compiler, '' where it is not installed."""
    return importlib.metadata.version("libtpu") if libtpu_installed() else ""


def describe_devices(topology: Topology) -> list[Any]:
    """Devices of TPU slices that only exist on paper; they can be compiled for, not run on.

    Raises:
      TopologyError: libtpu is not installed, or refuses the shape.
    """
    if not topology.compilable:
        raise TopologyError(f"cannot compile for {topology.name}: {topology.why_not_compilable}")
    for name, value in LIBTPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import jax
    from jax.experimental import topologies

    # A v4 chip has two cores that work as one device; libtpu describes them apart unless told.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.chip.name == "v4" else {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options)
    except jax.errors.JaxRuntimeError as error:
        raise TopologyError(f"topology {topology.name!r} is not a slice libtpu knows: {error}") from error
    if len(described.devices) != topology.num_devices:
        raise TopologyError(
            f"topology {topology.name!r}: libtpu describes {len(described.devices)} devices, "
            f"expected {topology.num_devices}"
        )
    return list(described.devices)


def _names(platform: str) -> str:
    return ", ".join(chip.name for chip in CHIPS.values() if chip.platform == platform)
