"""What the machine itself can do, measured in the same run as everything that is compared with it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.measure import median_seconds

IN_A_ROW = 8  # calls waited for together, so that the host's share of a short call does not count


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Rates of calls that follow each other.

    FLOPs per second of a square bfloat16 product, and bytes per second of a copy (reads plus writes).
    """

    matmul_side: int
    matmul_flops_per_second: float
    copy_bytes: int
    copy_bytes_per_second: float


def measure_ceilings(*, matmul_side: int, copy_bytes: int, repeats: int) -> Ceilings:
    """Random data on purpose: constant factors let a GPU run cooler and faster than training ever does."""
    left, right = (jax.random.normal(jax.random.key(i), (matmul_side, matmul_side), jnp.bfloat16) for i in (0, 1))
    product = jax.jit(lambda a, b: a @ b)
    matmul_seconds = _seconds_in_a_row(lambda: product(left, right), repeats=repeats)
    source = jax.random.bits(jax.random.key(2), (copy_bytes // 4,), jnp.uint32)
    copy = jax.jit(lambda x: x ^ jnp.uint32(1))  # a plain copy could be optimized away
    copy_seconds = _seconds_in_a_row(lambda: copy(source), repeats=repeats)
    return Ceilings(matmul_side, 2 * matmul_side**3 / matmul_seconds, copy_bytes, 2 * copy_bytes / copy_seconds)


def _seconds_in_a_row(call: Callable[[], jax.Array], *, repeats: int) -> float:
    """Seconds of one call of a row; a device runs them in order, so the last one's end is the row's."""

    def row() -> jax.Array:
        for _ in range(IN_A_ROW - 1):
            call()
        return call()

    return median_seconds(row, repeats=repeats) / IN_A_ROW
