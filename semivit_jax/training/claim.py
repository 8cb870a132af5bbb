"""Claim a workdir for a run, on all its hosts."""

import secrets
import time

import jax

from semivit_jax import console
from semivit_jax.checkpoints import workdir
from semivit_jax.config import Config, ConfigError
from semivit_jax.files import Path, read_json, write_json
from semivit_jax.hosts import agreement, cluster

SHARED_WITHIN_SECONDS = 60.0  # NFS may remember for half of that that a file was not there


def claim(folder: Path, config: Config, *, first_host: bool) -> None:
    """`workdir.claim`; where one host cannot, or does not see what the first one writes, all end and say so."""

    def try_to() -> None:
        try:
            workdir.claim(folder, config, first_host=first_host, say=console.say)
        except OSError as error:
            raise OSError(
                f"the workdir {folder} cannot be written to: {error.strerror}; nothing was started"
            ) from error

    agreement.together(try_to, errors=(ConfigError, OSError))
    if jax.process_count() > 1:
        _check_shared(folder)


def _check_shared(folder: Path) -> None:
    """Raises ClusterError, on all hosts, where some host does not see what the first one has just written.

    A new number every time: a host may have a folder of its own there, with an older copy of the run in it.
    """
    number = agreement.from_first_host(secrets.randbelow(2**31))
    path, limit = folder / ".shared.json", time.monotonic() + SHARED_WITHIN_SECONDS
    agreement.on_first_host(lambda: write_json(path, number))

    def see() -> None:
        while not (path.exists() and read_json(path) == number):
            if time.monotonic() > limit:
                reason = "what process 0 writes there is not seen here"
                raise cluster.ClusterError(f"the workdir {folder} is not one folder for all hosts: {reason}")
            time.sleep(0.1)

    try:
        agreement.together(see, errors=(cluster.ClusterError, OSError))
    finally:
        if jax.process_index() == 0:
            path.unlink(missing_ok=True)
