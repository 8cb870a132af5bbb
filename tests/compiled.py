"""Compiling for tests: programs run a few times on tiny arrays, so compilation is what takes the time."""

import jax

# A sixth of the compilation time on CPU, and slower programs; they differ from the usual ones by rounding only.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def quick_jit(function, **options):
    """`jax.jit` with little optimization."""
    return jax.jit(function, compiler_options=QUICK, **options)
