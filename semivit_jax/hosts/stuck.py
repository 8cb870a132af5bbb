"""Let GPU processes that wait for each other for ever end, so that a launcher can start the run again.

NCCL itself waits without end for a process that is gone or hangs. XLA ends a process that has waited for so many
seconds, where a flag says how many. That flag has come and gone with versions, and XLA ends a process over one that it
does not know: another process is asked first.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from semivit_jax.hosts import accelerators

FLAG = "--xla_gpu_nccl_termination_timeout_seconds"
_SECONDS_TO_ASK = 60.0


def flags_with_limit(environ: Mapping[str, str], seconds: float, *, is_known: Callable[[str], bool]) -> str:
    """XLA_FLAGS with the longest wait for other processes, if the user has set none and XLA knows the flag.

    Args:
      environ: environment variables.
      seconds: the limit.
      is_known: whether XLA takes a flag, given as --name=value.
    """
    given, wanted = environ.get("XLA_FLAGS", ""), f"{FLAG}={seconds:.0f}"
    return given if FLAG in given or not is_known(wanted) else f"{given} {wanted}".strip()


def limit_waits(seconds: float) -> None:
    """Sets the limit in this process's environment, on a machine with NVIDIA GPUs; call it before jax uses a device."""
    if "cpu" in os.environ.get("JAX_PLATFORMS", "").split(",") or accelerators.find().nvidia is None:
        return
    flags = flags_with_limit(os.environ, seconds, is_known=is_known)
    if flags:
        os.environ["XLA_FLAGS"] = flags


def is_known(flag: str) -> bool:
    """Whether the XLA that is installed takes a flag: asks a process of its own, which uses the CPU alone."""
    environ = os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env=environ, capture_output=True, timeout=_SECONDS_TO_ASK,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
