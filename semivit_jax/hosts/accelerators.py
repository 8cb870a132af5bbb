"""Find the accelerators of this machine without jax, and the extra of this package that lets jax use them.

`make install` loads this file by its path, before anything is installed and from any python3: it uses the standard
library alone and the syntax of Python 3.8.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Driver branch -> the newest CUDA it runs, newest first; where nvidia-smi does not tell.
CUDA_OF_DRIVER = ((580, (13, 0)), (525, (12, 0)))
# Extra of jax -> what its CUDA libraries need: CUDA of the driver, and compute capability of every GPU.
CUDA_EXTRAS = {"cuda13": ((13, 0), (7, 5)), "cuda12": ((12, 0), (5, 2))}
OLDEST_DRIVER = CUDA_OF_DRIVER[-1][0]
_SECONDS = 30.0  # for nvidia-smi, which takes some where the driver has to wake up


class Nvidia(NamedTuple):
    """The NVIDIA GPUs of a machine.

    Attributes:
      names: one per GPU; empty where only their devices were seen.
      driver: its version, "" where there is none.
      cuda: the newest CUDA that the driver runs, e.g. (13, 0); () where nobody tells.
      capability: compute capability of the oldest GPU, e.g. (7, 5); () where nobody tells.
    """

    names: tuple[str, ...]
    driver: str
    cuda: tuple[int, ...]
    capability: tuple[int, ...]


class Machine(NamedTuple):
    """What a machine has: `nvidia` is None without such a GPU, `tpu` what shows that there are chips, or ""."""

    nvidia: Nvidia | None
    tpu: str


def ask_nvidia(*arguments: str) -> str | None:
    """What nvidia-smi prints; None where it is absent, fails, or does not answer."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        done = subprocess.run([command, *arguments], stdout=subprocess.PIPE, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def find(
    *,
    root: pathlib.Path = pathlib.Path("/"),
    environ: Mapping[str, str] = os.environ,
    ask: Callable[..., str | None] = ask_nvidia,
) -> Machine:
    """Looks for accelerators.

    Args:
      root: of the file system.
      environ: environment variables.
      ask: takes arguments of nvidia-smi and returns what it prints, or None.
    """
    return Machine(_nvidia(root, ask), _tpu(root, environ))


def extra(machine: Machine) -> str:
    """The extra that lets jax use the machine; "" for none, or where the driver is too old or missing."""
    if machine.tpu:
        return "tpu"
    if machine.nvidia is None:
        return ""
    for name, (cuda, capability) in CUDA_EXTRAS.items():
        # A GPU that does not tell its capability, as with old drivers, is taken for a new one.
        if machine.nvidia.cuda >= cuda and (machine.nvidia.capability or capability) >= capability:
            return name
    return ""


def described(machine: Machine) -> str:
    """A machine's accelerators in some words, e.g. "2 x NVIDIA L4 (driver 580.65.06, CUDA 13.0)"."""
    if machine.tpu:
        return f"TPU ({machine.tpu})"
    if machine.nvidia is None:
        return "no accelerator"
    names, driver, cuda, _ = machine.nvidia
    gpus = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "NVIDIA GPU"
    told = ", CUDA " + ".".join(map(str, cuda)) if cuda else ""
    return f"{gpus} ({f'driver {driver}{told}' if driver else 'no driver'})"


def obstacle(machine: Machine) -> str:
    """Why no extra lets jax use the GPU of a machine, and what helps; "" where one does, or where there is no GPU."""
    if machine.nvidia is None or extra(machine):
        return ""
    if not machine.nvidia.driver:
        return (
            f"it has no driver here: install NVIDIA's, {OLDEST_DRIVER} or newer, or start the container with --gpus=all"
        )
    if machine.nvidia.cuda >= CUDA_EXTRAS["cuda12"][0]:
        return "it is older than jax supports (compute capability {}.{})".format(*machine.nvidia.capability)
    return f"jax needs driver {OLDEST_DRIVER} or newer"


def _nvidia(root: pathlib.Path, ask: Callable[..., str | None]) -> Nvidia | None:
    header = ask() or ""
    driver = _first(r"Driver Version\s*:\s*([\d.]+)", header) or _driver_of_kernel(root)
    if not driver:
        return Nvidia((), "", (), ()) if _on_the_bus(root) else None
    cuda = _numbers(_first(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", header))
    newest = (found for branch, found in CUDA_OF_DRIVER if _numbers(driver) >= (branch,))
    # Drivers before 510 refuse the question for the capability, and with it the whole row.
    rows = (ask("--query-gpu=compute_cap,name", "--format=csv,noheader") or "").strip().splitlines()
    capabilities = [_numbers(row.partition(",")[0].strip()) for row in rows]
    names = tuple(row.partition(",")[2].strip() for row in rows)
    return Nvidia(names, driver, cuda or next(newest, ()), min(capabilities, default=()))


def _driver_of_kernel(root: pathlib.Path) -> str:
    """Version of a loaded driver, as in a container that lacks nvidia-smi."""
    version = root / "proc/driver/nvidia/version"
    here = version.is_file() and any((root / "dev").glob("nvidia[0-9]*"))
    return _first(r"\s(\d+\.\d[\d.]*)\s", version.read_text()) if here else ""


def _on_the_bus(root: pathlib.Path) -> bool:
    """Whether the machine has an NVIDIA display or compute device, with or without a driver."""
    for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"):
        if vendor.read_text().strip() == "0x10de" and (vendor.parent / "class").read_text().startswith("0x03"):
            return True
    return False


def _tpu(root: pathlib.Path, environ: Mapping[str, str]) -> str:
    """What shows that this is a TPU VM, or a pod with chips."""
    chips = sorted(str(chip) for chip in (root / "dev").glob("accel[0-9]*"))
    if chips:
        return ", ".join(chips)
    groups = sorted(str(group) for group in (root / "dev/vfio").glob("[0-9]*"))
    product = root / "sys/class/dmi/id/product_name"
    # Other machines hand devices to virtual machines by /dev/vfio.
    of_google = "TPU_WORKER_ID" in environ or (product.is_file() and "Google" in product.read_text())
    return ", ".join(groups) if of_google else ""


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _numbers(text: str) -> tuple[int, ...]:
    """ "580.65.06" -> (580, 65, 6); () where a part is no number."""
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()
