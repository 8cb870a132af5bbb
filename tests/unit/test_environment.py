"""Each environment's traces lead to the right place in the run."""

import dataclasses

import pytest

from semivit_jax.hosts.cluster import Cluster, place
from semivit_jax.hosts.environment import ALONE, ClusterError, find, first_host

OPEN = Cluster(coordinator_address="", num_processes=-1, process_id=-1, coordinator_timeout_seconds=5.0)

SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NODELIST": "gpu[007-009,12]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
    "SLURM_NODEID": "2",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
GKE_TPU = {
    "TPU_WORKER_HOSTNAMES": "run-0.svc,run-1.svc",
    "TPU_WORKER_ID": "1",
    "KUBERNETES_SERVICE_HOST": "x",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


def no_metadata(attribute: str) -> None:
    return None


def located(environ: dict[str, str]) -> tuple[str, int, int]:
    member = find(environ, read_metadata=no_metadata)
    return member.coordinator_address, member.num_processes, member.process_id


@pytest.mark.parametrize(
    ("node_list", "host"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[003-010,12],gpu7", "n003"),
        ("rack[1-2]-n[05,07]", "rack1-n05"),
        ("login-a,n[1-2]", "login-a"),
        ("n[3]-ib,n4", "n3-ib"),
    ],
)
def test_first_host_of_a_slurm_node_list(node_list, host):
    assert first_host(node_list) == host


def test_without_traces_the_process_is_alone():
    assert find({"PATH": "/bin"}, read_metadata=no_metadata) is ALONE


def test_slurm_task():
    assert located(SLURM) == ("gpu007:23456", 4, 2)


def test_a_shell_inside_a_slurm_allocation_is_no_task():
    batch_script = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert find(batch_script, read_metadata=no_metadata) is ALONE


@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        ({}, None),  # one task per node: all its accelerators
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "SLURM_LOCALID": "3"}, (3,)),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,2,1(x2)", "SLURM_NODEID": "1", "SLURM_LOCALID": "1"}, (1,)),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,2,1(x2)", "SLURM_NODEID": "3"}, None),
        # Slurm has bound the task to one accelerator, which it sees as its first.
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "3"}, None),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "2(x4)", "SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1"},
            (1,),
        ),
    ],
)
def test_slurm_tasks_of_one_node_share_its_accelerators(changes, devices):
    assert find(SLURM | changes, read_metadata=no_metadata).local_device_ids == devices


def test_tpu_pod_of_one_slice_and_of_two():
    assert located(GKE_TPU) == ("run-0.svc:8476", 2, 1)
    second_slice = {
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
        "MEGASCALE_COORDINATOR_ADDRESS": "first:8080",
    }
    assert located(GKE_TPU | second_slice) == ("first:8476", 4, 3)


def test_tpu_vm_reads_its_metadata_in_both_formats():
    attributes = {"agent-worker-number": "1", "worker-network-endpoints": "a:b:10.0.0.5,c:d:10.0.0.6"}
    member = find({}, read_metadata=attributes.get)
    assert (member.coordinator_address, member.num_processes, member.process_id) == ("10.0.0.5:8476", 2, 1)
    attributes["worker-network-endpoints"] = "10.0.0.5,10.0.0.6"
    assert find({}, read_metadata=attributes.get) == member
    attributes["tpu-env"] = "ACCELERATOR_TYPE: 'v4-16'\nMEGASCALE_NUM_SLICES: '3'\nMEGASCALE_SLICE_ID: '2'\n"
    third_slice = find({}, read_metadata=attributes.get)
    assert (third_slice.num_processes, third_slice.process_id) == (6, 5)


def test_mpi_on_one_host_needs_no_address_and_on_several_does():
    assert located(MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}) == ("127.0.0.1:8476", 4, 3)
    assert located({"PMI_SIZE": "2", "PMI_RANK": "1"}) == ("", 2, 1)
    with pytest.raises(ClusterError, match=r"process 3 of 4 \(from MPI\) has no coordinator address"):
        place(OPEN, MPI, read_metadata=no_metadata)


def test_indexed_job_takes_its_index_from_kubernetes_and_the_rest_from_the_manifest():
    environ = {
        "JOB_COMPLETION_INDEX": "3",
        "SEMIVIT_NUM_PROCESSES": "4",
        "SEMIVIT_COORDINATOR": "run-workers-0-0.run:8476",
    }
    member = place(OPEN, environ, read_metadata=no_metadata)
    assert (member.coordinator_address, member.num_processes, member.process_id) == (
        "run-workers-0-0.run:8476",
        4,
        3,
    )


def test_spec_wins_over_variables_and_variables_over_traces():
    environ = SLURM | {"SEMIVIT_COORDINATOR": "here:1", "SEMIVIT_NUM_PROCESSES": "3"}
    member = place(OPEN, environ, read_metadata=no_metadata)
    assert (member.coordinator_address, member.num_processes, member.process_id) == ("here:1", 3, 2)
    spec = dataclasses.replace(OPEN, coordinator_address="there:2", process_id=0)
    member = place(spec, environ, read_metadata=no_metadata)
    assert (member.coordinator_address, member.num_processes, member.process_id) == ("there:2", 3, 0)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SEMIVIT_NUM_PROCESSES": "1"},
        {"SEMIVIT_NUM_PROCESSES": "1", "SEMIVIT_PROCESS_ID": "0", "SEMIVIT_COORDINATOR": "h:1"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_one_process_needs_no_coordinator(environ):
    member = place(OPEN, environ, read_metadata=no_metadata)
    assert (member.coordinator_address, member.num_processes, member.process_id) == ("", 1, 0)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"SEMIVIT_COORDINATOR": "h:1"},
            "set SEMIVIT_COORDINATOR, SEMIVIT_NUM_PROCESSES and SEMIVIT_PROCESS_ID",
        ),
        ({"SEMIVIT_NUM_PROCESSES": "2"}, "process_id=None"),
        ({"SEMIVIT_NUM_PROCESSES": "2", "SEMIVIT_PROCESS_ID": "0"}, "no coordinator address"),
        (
            {"SEMIVIT_NUM_PROCESSES": "2", "SEMIVIT_PROCESS_ID": "2", "SEMIVIT_COORDINATOR": "h:1"},
            "process_id=2 of num_processes=2",
        ),
        ({"SEMIVIT_NUM_PROCESSES": "two", "SEMIVIT_PROCESS_ID": "0"}, "SEMIVIT_NUM_PROCESSES='two'"),
        (SLURM | {"SLURM_PROCID": "x"}, "SLURM_PROCID='x'"),
    ],
)
def test_an_incomplete_or_impossible_place_is_named(environ, message):
    with pytest.raises(ClusterError, match=message):
        place(OPEN, environ, read_metadata=no_metadata)


def test_waiting_time_must_be_positive():
    with pytest.raises(ClusterError, match=r"coordinator_timeout_seconds=0.0; legal is > 0"):
        place(dataclasses.replace(OPEN, coordinator_timeout_seconds=0.0), {}, read_metadata=no_metadata)
