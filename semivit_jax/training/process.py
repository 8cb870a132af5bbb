"""Prepare a process before it touches a device: flags, cache, the other hosts."""

import os

from semivit_jax.config import Config
from semivit_jax.hosts import cluster, stuck
from semivit_jax.training.programs import keep_programs

_PATIENCE = 2.0  # times the wait that is told as a hang: then a process ends that waits for the others of a sum


def prepare_process(config: Config) -> None:
    """Everything that must happen before a device is touched: flags, cache, and the other hosts."""
    if config.train.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.train.hang_minutes:
        stuck.limit_waits(_PATIENCE * 60.0 * config.train.hang_minutes)
    if config.train.compilation_cache:
        keep_programs()
    mesh = config.mesh
    cluster.start(
        cluster.Cluster(mesh.coordinator_address, mesh.num_processes, mesh.process_id, mesh.coordinator_timeout_seconds)
    )
