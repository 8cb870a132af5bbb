"""XLA flags for accelerators, as named presets. They must be in the environment before a device is touched."""

from collections.abc import MutableMapping

PRESETS: dict[str, tuple[str, ...]] = {
    # One GPU: no collectives to hide; what is left is launch cost and the choice of matmul kernels.
    "gpu": (
        "--xla_gpu_autotune_level=4",  # tries every kernel on real data, checks results against each other
        "--xla_gpu_enable_latency_hiding_scheduler=true",
    ),
    # Several GPUs: parameters are gathered and gradients summed while the blocks compute.
    "gpus": (
        "--xla_gpu_autotune_level=4",
        "--xla_gpu_enable_latency_hiding_scheduler=true",
        "--xla_gpu_enable_pipelined_all_gather=true",
        "--xla_gpu_enable_pipelined_reduce_scatter=true",
        "--xla_gpu_enable_pipelined_all_reduce=true",
    ),
    # To look for launch overhead: kernels one by one instead of recorded command buffers.
    "gpu_no_command_buffer": ("--xla_gpu_enable_command_buffer=",),
}


def apply(preset: str, environment: MutableMapping[str, str]) -> None:
    """Adds a preset to XLA_FLAGS; flags already given there come last and win.

    Raises:
      ValueError: for an unknown preset, naming the known ones.
    """
    if preset not in PRESETS:
        raise ValueError(f"XLA preset is {preset!r}; legal values: {', '.join(PRESETS)}")
    environment["XLA_FLAGS"] = " ".join([*PRESETS[preset], environment.get("XLA_FLAGS", "")]).strip()
