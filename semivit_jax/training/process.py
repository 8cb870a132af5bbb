"""Prepare a process before it touches a device: flags, cache, the other hosts."""

import logging
import os

import jax

from semivit_jax import files
from semivit_jax.config import Config
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.hosts import cluster, stuck

_PATIENCE = 2.0  # times the wait that is told as a hang: then a process ends that waits for the others of a sum
_log = logging.getLogger(__name__)


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


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR has named another place.

    A folder that cannot be written to costs the time to compile, no more.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = cache_dir() / "compiled"
    if why := files.why_no_folder(folder):
        _log.warning(
            "compiled programs are not kept for the next start, since %s; set XDG_CACHE_HOME or "
            "JAX_COMPILATION_CACHE_DIR to a folder that can be written to, or --config.train.compilation_cache=False",
            why,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
