"""Print what a report of a fault needs to say about this machine: `semivit doctor`."""

import argparse
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax

from semivit_jax import __version__, files
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.hosts import accelerators, devices, extras
from semivit_jax.preflight import device_check

_DESCRIPTION = """Prints versions, devices, a check of their arithmetic, room and extras; takes seconds. Exit code 1
where a device does not start or computes wrongly."""
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "grain", "array-record",
    "tensorflow-datasets", "ml-collections", "numpy", "pillow", "simplejpeg", "opencv-python-headless",
)  # fmt: skip
# Beginnings of variables that change what happens; HF_ alone would print a token, and jax itself sets one of TPU_.
_VARIABLES = ("JAX_", "XLA_", "CUDA_", "TPU_WORKER_", "TPU_VISIBLE_", "LD_LIBRARY_PATH", "SEMIVIT_", "XDG_CACHE_HOME",
              "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")  # fmt: skip
_GIB = 2**30


def doctor(argv: list[str]) -> int:
    """Prints the facts; returns the exit code (0 all is well, 1 a device is not, 2 bad usage)."""
    parser = argparse.ArgumentParser(prog="semivit doctor", description=_DESCRIPTION)
    try:
        parser.parse_args(argv)
    except SystemExit as left:  # argparse has told why
        return 2 if left.code else 0
    for section in (_software(), _machine(), _places(), _extras()):
        _show(section)
    return 0 if _devices() else 1


def _show(rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        print(f"{name:<24} {value}", flush=True)


def _software() -> Iterator[tuple[str, str]]:
    yield "semivit_jax", f"{__version__} in {Path(files.__file__).parents[1]}"
    yield "Python", f"{platform.python_version()}, {platform.platform()}"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    for name in sorted(name for name in os.environ if name.startswith(_VARIABLES)):
        yield name, os.environ[name]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "MISSING"


def _machine() -> Iterator[tuple[str, str]]:
    yield "cores", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}"
    page = os.sysconf("SC_PAGE_SIZE") / _GIB
    yield "memory", f"{os.sysconf('SC_PHYS_PAGES') * page:.1f} GiB"
    machine = accelerators.find()
    obstacle = accelerators.obstacle(machine)
    yield "accelerator", accelerators.described(machine) + (f"; {obstacle}" if obstacle else "")


def _places() -> Iterator[tuple[str, str]]:
    """Folders that are written to, with the room that is left there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {
        "here": Path.cwd(),
        "cache": cache_dir(),
        "compiled programs": Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_dir() / "compiled"),
        "Hugging Face": Path(HF_HUB_CACHE),
    }
    for name, place in places.items():
        why = files.why_not_writable(place)
        there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
        yield name, f"{place}, {why or f'{shutil.disk_usage(there).free / _GIB:,.1f} GiB free'}"


def _extras() -> Iterator[tuple[str, str]]:
    for name, (_, purpose) in extras.EXTRAS.items():
        here = extras.installed(name)
        yield f"[{name}]", f"{'installed' if here else 'missing'}: {purpose}"
        if not here:
            yield "", extras.install_line(name)


def _devices() -> bool:
    """Prints what jax runs on and how well it computes there; returns whether all is well."""
    try:
        _show([("jax runs on", devices.running_on())])
    except RuntimeError as error:  # such as JAX_PLATFORMS naming what is not there
        _show([("jax does not start", " ".join(str(error).split()))])
        return False
    if unused := devices.left_unused():
        _show([("warning", unused)])
        if refusal := devices.refusal(accelerators.find()):
            _show([("jax says", refusal)])
    results = [_checked(name, check) for name, check in device_check.checks(jax.default_backend()).items()]
    return all(results)


def _checked(name: str, check: Callable[[], device_check.Checked]) -> bool:
    """Prints one check of a device; returns whether it is well."""
    try:
        found = check()
    except (RuntimeError, ValueError) as error:  # what jax raises where a kernel does not run
        _show([(name, f"FAILS: {' '.join(str(error).split())}")])
        return False
    state = "right" if found.right else f"WRONG by {found.error:.2g}, where up to {found.bound:.0e} is rounding"
    _show([(name, f"{found.what}: {state}, {found.flops_per_second / 1e9:,.0f} GFLOP/s")])
    return found.right
