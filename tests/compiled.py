"""Compiling for tests: programs run a few times on tiny arrays, so compilation is what takes the time."""

import jax

# A sixth of the compilation time on CPU, and slower programs; they differ from the usual ones by rounding only.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11):  # the flag is gone since, and XLA refuses flags it does not know
    QUICK["xla_cpu_use_fusion_emitters"] = False
QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())  # for XLA_FLAGS


def quick_jit(function, **options):
    """`jax.jit` with little optimization."""
    return jax.jit(function, compiler_options=QUICK, **options)
