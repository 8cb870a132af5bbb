"""Tell on what jax runs here, and what of the machine it leaves alone."""

import os
import platform
from collections.abc import Iterable
from typing import Any

import jax

from semivit_jax.hosts import accelerators, extras
from semivit_jax.hosts.accelerators import Machine
from semivit_jax.words import counted


def running_on() -> str:
    """The devices of all processes, e.g. "8 x NVIDIA L4 (gpu) in 2 slices, jax 0.11.2, Python 3.12.12"."""
    names = [device.device_kind for device in jax.devices()]
    kinds = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    # A CPU's device is called "cpu", as its platform is.
    platforms = "" if kinds.endswith(jax.default_backend()) else f" ({jax.default_backend()})"
    hosts = f" of {counted(jax.process_count(), 'process', 'processes')}" if jax.process_count() > 1 else ""
    slices = len(set(slices_of(jax.devices())))
    several = f" in {slices} slices" if slices > 1 else ""
    return f"{kinds}{platforms}{hosts}{several}, jax {jax.__version__}, Python {platform.python_version()}"


def slices_of(devices: Iterable[Any]) -> list[int]:
    """The slice of each device; devices of one slice have links of their own, between slices there is a network.

    XLA numbers slices of TPUs, and of GPUs what NVLink joins: a host, or several. CPUs have no number, and are one
    slice.
    """
    return [getattr(device, "slice_index", 0) for device in devices]


def left_unused() -> str:
    """Tells of a GPU or TPU in this machine that jax does not use, and what mends it; "" where there is none.

    Where JAX_PLATFORMS has chosen the CPU, that is what was wanted.
    """
    if jax.default_backend() != "cpu" or os.environ.get("JAX_PLATFORMS"):
        return ""
    machine = accelerators.find()
    if machine.nvidia is None and not machine.tpu:
        return ""
    return f"this machine has {accelerators.described(machine)}, which jax does not use: {_mending(machine)}"


def _mending(machine: Machine) -> str:
    if obstacle := accelerators.obstacle(machine):
        return obstacle
    extra = accelerators.extra(machine)
    if not extras.installed(extra):
        return extras.install_line(extra)
    return f"{extras.EXTRAS[extra][0]} is installed but finds no device; `semivit doctor` shows what it says"


def refusal(machine: Machine) -> str:
    """What jax says when it is asked for a machine's accelerator; "" where that starts, or its extra is missing."""
    extra = accelerators.extra(machine)
    if not extra or not extras.installed(extra):
        return ""
    try:
        jax.devices("tpu" if machine.tpu else "cuda")
    except RuntimeError as error:
        return " ".join(str(error).split())
    return ""
