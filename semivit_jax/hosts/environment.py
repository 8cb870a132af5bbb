"""Find this process's place in a run from environment variables, without communication.

Every launcher leaves its own traces: Slurm, Kubernetes, Cloud TPU and MPI set variables, a TPU VM has a
metadata server. `find` turns them into one `Membership`. Everything here is a function of the mapping and the
reader it is given, so each environment can be tested without being in it.

jax knows these environments too. They are read here because the coordinator's address must be known before
`jax.distributed.initialize` is called (`cluster.start` tries it first), and because jax gives a Slurm task
that has a whole node only the first of its accelerators.
"""

import dataclasses
import pathlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

# One port for every run that has its hosts for itself; several runs of one host choose theirs.
COORDINATOR_PORT = 8476


class ClusterError(RuntimeError):
    """The processes of a run cannot be brought together, or do not agree; the message names who and what."""


@dataclasses.dataclass(frozen=True)
class Membership:
    """One process's place in a run.

    Attributes:
      coordinator_address: "host:port" of process 0; "" for a run of one process.
      num_processes: processes of the run, at least 1.
      process_id: this process, in [0, num_processes).
      local_device_ids: accelerators of this host that are this process's own; None = all that it can see.
      source: where the place was read from, for messages.
    """

    coordinator_address: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None
    source: str


ALONE = Membership(
    coordinator_address="", num_processes=1, process_id=0, local_device_ids=None, source="no cluster found"
)

# Name of an instance attribute -> its text, or None where this machine is no TPU VM.
ReadMetadata = Callable[[str], str | None]


def find(environ: Mapping[str, str], *, read_metadata: ReadMetadata) -> Membership:
    """Reads this process's place from the first environment that shows traces of itself.

    Args:
      environ: environment variables.
      read_metadata: reader of a TPU VM's instance attributes.

    Returns:
      The place; `ALONE` where nothing hints at other processes. `coordinator_address` is "" where the
      environment tells rank and size, but not where process 0 is.

    Raises:
      ClusterError: a variable that should hold a number does not.
    """
    for read in (_slurm, _tpu_on_kubernetes, _indexed_job, _mpi):
        membership = read(environ)
        if membership is not None:
            return membership
    if "KUBERNETES_SERVICE_HOST" in environ:  # in a pod the metadata server describes the node, not the run
        return ALONE
    return _tpu_vm(read_metadata) or ALONE


def integer(environ: Mapping[str, str], name: str) -> int:
    """The non-negative integer in variable `name`, which must be set; ClusterError names any other value."""
    text = environ[name]
    if not text.isdecimal():
        raise ClusterError(f"{name}={text!r} is not a number; legal are 0, 1, 2, ...")
    return int(text)


def first_host(node_list: str) -> str:
    """First host of a Slurm node list, e.g. "rack1-n[003-010,12],gpu7" -> "rack1-n003"."""
    first = re.match(r"(?:[^,\[]|\[[^]]*])*", node_list)
    return re.sub(r"\[([^],-]+)[^]]*]", r"\1", first.group() if first else "")


def _slurm(environ: Mapping[str, str]) -> Membership | None:
    """A task started by srun: read from the step, since a shell inside an allocation is but one process."""
    if not {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"} <= environ.keys():
        return None
    # Jobs may share a node, so the port follows the job, below the range for outgoing connections.
    port = 20000 + integer(environ, "SLURM_JOB_ID") % 10000
    return Membership(
        coordinator_address=f"{first_host(environ['SLURM_STEP_NODELIST'])}:{port}",
        num_processes=integer(environ, "SLURM_STEP_NUM_TASKS"),
        process_id=integer(environ, "SLURM_PROCID"),
        local_device_ids=_slurm_devices(environ),
        source="Slurm",
    )


def _slurm_devices(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """All it can see for a task alone on its node, or bound by Slurm; else the one of its local rank."""
    # "8(x3),4": tasks on each node of the step, in order; this task's node is SLURM_NODEID.
    counts: list[int] = []
    for tasks, repeats in re.findall(r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", "1")):
        counts += [int(tasks)] * int(repeats or 1)
    node = integer(environ, "SLURM_NODEID") if "SLURM_NODEID" in environ else 0
    alone = counts[min(node, len(counts) - 1)] == 1
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    bound = visible != "" and "," not in visible
    if alone or bound or "SLURM_LOCALID" not in environ:
        return None
    return (integer(environ, "SLURM_LOCALID"),)


def _tpu_on_kubernetes(environ: Mapping[str, str]) -> Membership | None:
    """A pod with TPU chips: GKE lists the hosts of its slice, MEGASCALE_* count the slices if several."""
    if not {"TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"} <= environ.keys():
        return None
    hosts = environ["TPU_WORKER_HOSTNAMES"].split(",")
    return _slice_member(
        hosts=hosts, worker=integer(environ, "TPU_WORKER_ID"), megascale=environ, source="TPU on Kubernetes"
    )


def _slice_member(*, hosts: list[str], worker: int, megascale: Mapping[str, str], source: str) -> Membership:
    """Place of worker `worker` of one TPU slice among all workers of all slices, slice after slice."""
    slices = integer(megascale, "MEGASCALE_NUM_SLICES") if megascale.get("MEGASCALE_NUM_SLICES") else 1
    slice_id = integer(megascale, "MEGASCALE_SLICE_ID") if megascale.get("MEGASCALE_SLICE_ID") else 0
    coordinator = megascale.get("MEGASCALE_COORDINATOR_ADDRESS", "").split(":")[0] or hosts[0]
    return Membership(
        coordinator_address=f"{coordinator}:{COORDINATOR_PORT}",
        num_processes=len(hosts) * slices,
        process_id=worker + len(hosts) * slice_id,
        local_device_ids=None,
        source=source,
    )


def _indexed_job(environ: Mapping[str, str]) -> Membership | None:
    """A pod of an indexed Kubernetes job, which knows only its index; the manifest adds SEMIVIT_*."""
    if not {"JOB_COMPLETION_INDEX", "SEMIVIT_NUM_PROCESSES"} <= environ.keys():
        return None
    return Membership(
        coordinator_address="",
        num_processes=integer(environ, "SEMIVIT_NUM_PROCESSES"),
        process_id=integer(environ, "JOB_COMPLETION_INDEX"),
        local_device_ids=None,
        source="indexed Kubernetes job",
    )


def _mpi(environ: Mapping[str, str]) -> Membership | None:
    """A rank started by Open MPI's mpirun, or by one that speaks PMI (MPICH, Intel MPI)."""
    if {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"} <= environ.keys():
        size, rank = integer(environ, "OMPI_COMM_WORLD_SIZE"), integer(environ, "OMPI_COMM_WORLD_RANK")
    elif {"PMI_SIZE", "PMI_RANK"} <= environ.keys():
        size, rank = integer(environ, "PMI_SIZE"), integer(environ, "PMI_RANK")
    else:
        return None
    one_host = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", environ.get("MPI_LOCALNRANKS")) == str(size)
    return Membership(
        # MPI tells nobody where rank 0 is; on one host it is here.
        coordinator_address=f"127.0.0.1:{COORDINATOR_PORT}" if one_host else "",
        num_processes=size,
        process_id=rank,
        local_device_ids=None,
        source="MPI",
    )


def _tpu_vm(read_metadata: ReadMetadata) -> Membership | None:
    """A worker of a Cloud TPU VM slice, described by its metadata server."""
    worker = read_metadata("agent-worker-number")
    endpoints = read_metadata("worker-network-endpoints")
    if worker is None or endpoints is None:
        return None
    # An entry is a host name, or, on older images, "name:id:ip".
    hosts = [entry.split(":")[-1] for entry in endpoints.split(",")]
    tpu_env = dict(re.findall(r"^\s*(MEGASCALE_\w+)\s*:\s*'?([^'\n]*)'?\s*$", read_metadata("tpu-env") or "", re.M))
    return _slice_member(
        hosts=hosts,
        worker=integer({"agent-worker-number": worker}, "agent-worker-number"),
        megascale=tpu_env,
        source="TPU VM",
    )


def tpu_vm_metadata(attribute: str) -> str | None:
    """Reads an instance attribute from the metadata server of a TPU VM.

    Args:
      attribute: e.g. "agent-worker-number".

    Returns:
      Its text; None on a machine without TPU chips (no request is made), or where there is no such one.

    Raises:
      ClusterError: the machine has TPU chips, but its metadata server does not answer.
    """
    # Older drivers show chips as /dev/accel0, newer ones as /dev/vfio/0, which other machines have too.
    product = pathlib.Path("/sys/class/dmi/id/product_name")
    on_google_cloud = product.exists() and "Google" in product.read_text()
    if not (on_google_cloud and any(pathlib.Path(chip).exists() for chip in ("/dev/accel0", "/dev/vfio/0"))):
        return None
    url = f"http://metadata.google.internal/computeMetadata/v1/instance/attributes/{attribute}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise ClusterError(f"{url} answered {error.code} {error.reason}") from error
    except OSError as error:
        raise ClusterError(f"no answer from the TPU VM's metadata server: {url}: {error}") from error
