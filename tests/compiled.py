"""Compiling for tests: programs run a few times on tiny arrays, so compilation is what takes the time."""

import jax

# Half the compilation time, slower programs; rounding is all that may differ.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def quick_jit(function, **options):
    """`jax.jit` with little optimization."""
    return jax.jit(function, compiler_options=QUICK, **options)
