"""Which kernels the semi step spends its time in, from jax's own profiler: matrix products, attention, all else."""

import collections
import dataclasses
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from benchmarks.cases import Case
from benchmarks.measure import WARMUP_STEPS, ready_to_step

STEPS = 5
SHOWN = 30  # kernels listed
# Kernels' own names. Attention first: cuDNN's are named after the products inside them, too.
ATTENTION = re.compile(r"fmha|sdpa|flash|attention", re.IGNORECASE)
MATMUL = re.compile(r"gemm|nvjet|cutlass|cublas|xmma|wgmma|matmul|(^|_)dot|splitK", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Seconds per step on the device by kind of kernel.

    Attributes:
      other_share: of the time in kernels, what is neither matrix product nor attention.
      slowest: (kind, kernel, seconds per step), the slowest first; read them before trusting the kinds.
    """

    case: Case
    matmul: float
    attention: float
    other: float
    other_share: float
    slowest: tuple[tuple[str, str, float], ...]


def measure_kernels(case: Case) -> Kernels:
    """Profiles a few steps of the case after warm-up."""
    step, state = ready_to_step(case)
    for _ in range(WARMUP_STEPS):
        state, found = step(state)
    jax.block_until_ready(found)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                state, found = step(state)
            jax.block_until_ready(found)
        (profile,) = Path(folder).rglob("*.xplane.pb")
        seconds = kernel_seconds(ProfileData.from_file(str(profile)))
    return by_kind(case, seconds, steps=STEPS)


def kernel_seconds(profile: Any) -> dict[str, float]:
    """Total seconds of every kernel of a `jax.profiler.ProfileData`.

    On a CPU an operation of the program counts as a kernel, loops included.

    Raises:
      ValueError: the profile holds no kernels; the message names what it holds.
    """
    total: dict[str, float] = collections.defaultdict(float)
    for name, nanoseconds in _events(profile):
        total[name] += nanoseconds * 1e-9
    if not total:
        held = {plane.name: [line.name for line in plane.lines] for plane in profile.planes}
        raise ValueError(f"no kernels in the profile, which holds {held}")
    return dict(total)


def _events(profile: Any) -> Iterator[tuple[str, float]]:
    for plane in profile.planes:
        for line in plane.lines:
            if plane.name.startswith("/device:GPU"):
                # Other lines of the plane would repeat what the streams hold.
                if line.name.startswith("Stream"):
                    yield from ((event.name, event.duration_ns) for event in line.events)
            elif plane.name == "/host:CPU":
                yield from ((e.name, e.duration_ns) for e in line.events if "hlo_op" in dict(e.stats))


def by_kind(case: Case, seconds: dict[str, float], *, steps: int) -> Kernels:
    """Sums kernels by kind, per step."""
    sums = {kind: _sum(s for name, s in seconds.items() if kind_of(name) == kind) / steps for kind in KINDS}
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:SHOWN]
    return Kernels(
        case=case,
        **sums,
        other_share=sums["other"] / _sum(sums.values()),
        slowest=tuple((kind_of(name), name, seconds[name] / steps) for name in slowest),
    )


KINDS = ("matmul", "attention", "other")


def kind_of(kernel: str) -> str:
    if ATTENTION.search(kernel):
        return "attention"
    return "matmul" if MATMUL.search(kernel) else "other"


def _sum(values: Iterable[float]) -> float:
    return sum(values, 0.0)
