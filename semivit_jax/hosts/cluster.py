"""Join the processes of a run, and let one leave alone after an error.

`start` decides whether this process is one of many, tries the coordinator over plain TCP, and only then calls
`jax.distributed.initialize`, which would say nothing for minutes and then end the process in C++ without a
Python exception. With one process it does nothing. What processes then ask each other: `agreement.py`.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping

import jax

from semivit_jax.hosts import coordinator, environment, stopping
from semivit_jax.hosts.environment import ClusterError, Membership

logger = logging.getLogger(__name__)

_REPORT_EVERY_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How to bring the processes together; every field but the last may be left to be found.

    Attributes:
      coordinator_address: "host:port" of process 0, or "" to find it.
      num_processes: processes of the run, or -1 to find it.
      process_id: this process, in [0, num_processes), or -1 to find it.
      coordinator_timeout_seconds: how long to wait for the coordinator, and it for the other processes.
    """

    coordinator_address: str
    num_processes: int
    process_id: int
    coordinator_timeout_seconds: float


def start(spec: Cluster) -> Membership:
    """Joins this process to the others of its run; does nothing in a run of one process.

    Call it before anything touches a device. Handlers of SIGTERM belong after it: jax installs its own here.

    Args:
      spec: what is known; the variables SEMIVIT_COORDINATOR, SEMIVIT_NUM_PROCESSES and SEMIVIT_PROCESS_ID
        fill in fields left open, then Slurm, Kubernetes, Cloud TPU or MPI (`environment.find`).

    Returns:
      This process's place in the run, and where it was read from.

    Raises:
      ClusterError: the place is incomplete or impossible; the coordinator's address is missing, malformed,
        cannot be resolved (these at once), is not this host though this is process 0, or cannot be reached
        within `coordinator_timeout_seconds`. The message names the address.
    """
    member = place(spec, os.environ, read_metadata=environment.tpu_vm_metadata)
    if member.num_processes == 1:
        return member
    caller = f"process {member.process_id} of {member.num_processes} (from {member.source})"
    address = coordinator.parse(member.coordinator_address)
    coordinator.resolve(address, caller=caller)
    if member.process_id == 0:
        coordinator.check_is_here(address, caller=caller)
        logger.warning("%s waits up to %.0f s for the others", caller, spec.coordinator_timeout_seconds)
    else:
        coordinator.wait_until_reachable(
            address,
            caller=caller,
            timeout_seconds=spec.coordinator_timeout_seconds,
            report_every_seconds=_REPORT_EVERY_SECONDS,
            report=logger.warning,
        )
    jax.distributed.initialize(
        coordinator_address=member.coordinator_address,
        num_processes=member.num_processes,
        process_id=member.process_id,
        local_device_ids=member.local_device_ids,
        cluster_detection_method="deactivate",  # it was detected above
        initialization_timeout=max(1, round(spec.coordinator_timeout_seconds)),
    )
    return member


def place(spec: Cluster, environ: Mapping[str, str], *, read_metadata: environment.ReadMetadata) -> Membership:
    """This process's place: the spec's fields, then SEMIVIT_* variables, then the environment's own traces.

    Args:
      spec: see `Cluster`.
      environ: environment variables.
      read_metadata: reader of a TPU VM's instance attributes.

    Raises:
      ClusterError: see `start`.
    """
    if spec.coordinator_timeout_seconds <= 0:
        raise ClusterError(f"coordinator_timeout_seconds={spec.coordinator_timeout_seconds}; legal is > 0")
    found = environment.find(environ, read_metadata=read_metadata)
    address = spec.coordinator_address or environ.get("SEMIVIT_COORDINATOR", "")
    num_processes = _given(spec.num_processes, environ, "SEMIVIT_NUM_PROCESSES")
    process_id = _given(spec.process_id, environ, "SEMIVIT_PROCESS_ID")
    if found is environment.ALONE:
        return _explicit(address, num_processes=num_processes, process_id=process_id)
    member = dataclasses.replace(
        found,
        coordinator_address=address or found.coordinator_address,
        num_processes=found.num_processes if num_processes is None else num_processes,
        process_id=found.process_id if process_id is None else process_id,
    )
    return _checked(member)


def _given(field: int, environ: Mapping[str, str], variable: str) -> int | None:
    """The spec's number, or the variable's, or None where both leave it open."""
    if field >= 0:
        return field
    return environment.integer(environ, variable) if environ.get(variable) else None


def _explicit(address: str, *, num_processes: int | None, process_id: int | None) -> Membership:
    """A place told by spec and SEMIVIT_* alone: all three parts, or none."""
    if num_processes is None and process_id is None and not address:
        return environment.ALONE
    if num_processes == 1 and process_id in (None, 0):
        return environment.ALONE
    if num_processes is None or process_id is None:
        raise ClusterError(
            f"coordinator={address!r}, num_processes={num_processes}, process_id={process_id}, and no "
            "cluster was found to tell the rest; set SEMIVIT_COORDINATOR, SEMIVIT_NUM_PROCESSES and "
            "SEMIVIT_PROCESS_ID"
        )
    return _checked(
        Membership(
            coordinator_address=address,
            num_processes=num_processes,
            process_id=process_id,
            local_device_ids=None,
            source="SEMIVIT_* or config",
        )
    )


def _checked(member: Membership) -> Membership:
    """The member itself, once its numbers are possible and it has a coordinator if it needs one."""
    if member.num_processes < 1 or not 0 <= member.process_id < member.num_processes:
        raise ClusterError(
            f"process_id={member.process_id} of num_processes={member.num_processes} (from {member.source}); "
            "legal are 0 <= process_id < num_processes"
        )
    if member.num_processes == 1:
        return dataclasses.replace(member, coordinator_address="", local_device_ids=None)
    if not member.coordinator_address:
        raise ClusterError(
            f"process {member.process_id} of {member.num_processes} (from {member.source}) has no "
            "coordinator address; set SEMIVIT_COORDINATOR=host:port, the host being the one of process 0"
        )
    return member


def leave_alone(*, exit_code: int) -> None:
    """Call it where this process ends with an error that the others may not know of.

    At exit jax waits 300 s for all processes to leave together, and the others, in the middle of a step, do not come.
    So this one is ended after a while: enough to say goodbye where all leave with the same error. The launcher ends the
    others once this one is gone; without one they abort by themselves when they miss its heartbeat (100 s).

    Args:
      exit_code: what the launcher is to see.
    """
    if jax.distributed.is_initialized():
        stopping.end_within(stopping.GOODBYE_SECONDS, exit_code=exit_code)
