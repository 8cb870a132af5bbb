"""Two real processes on the loopback interface come together, agree, and name the one that does not."""

import dataclasses
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from semivit_jax.hosts.agreement import _differing, _odd_ones_out, any_host, same_on_every_host
from semivit_jax.hosts.cluster import Cluster, start

# Run by every process; the arguments are the address, the number of processes and this process's number.
MEMBER = textwrap.dedent(
    """
    import sys
    import jax
    from semivit_jax.hosts.agreement import any_host, on_first_host, same_on_every_host, together
    from semivit_jax.hosts.cluster import Cluster, start
    from semivit_jax.hosts.environment import ClusterError

    address, num_processes, process_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start(Cluster(address, num_processes, process_id, coordinator_timeout_seconds=30.0))
    print("devices", jax.local_device_count(), jax.device_count())
    print("any", any_host(process_id == 1), any_host(False))
    same_on_every_host({"config": "lr=1", "code version": "1.0"})
    print("equal facts pass")
    print("together", together(lambda: process_id, errors=(OSError,)) == process_id)

    def fails(on, words):
        if process_id in on:
            raise OSError(words)

    for on, words in (((1,), "disk full"), ((0, 1), "no such folder"), ((0, 1), f"disk {process_id} full")):
        try:
            together(lambda: fails(on, words), errors=(OSError,))
        except (ClusterError, OSError) as error:
            print("failed:", type(error).__name__, error)
    try:
        on_first_host(lambda: fails((0,), "read-only"))
    except ClusterError as error:
        print("failed:", type(error).__name__, error)
    for facts in (
        {"config": f"lr={process_id}", "code version": "1.0", "listing": f"{process_id} images"},
        {"config": "lr=1", f"fact {process_id}": "1.0"},
        {"config": "lr=1"} if process_id == 0 else {"config": "lr=1", "listing": "7 images"},
    ):
        try:
            same_on_every_host(facts)
        except ClusterError as error:
            print("refused:", error)
    """
)


# Process 1 fails alone, while process 0 waits for it in a collective.
FAILS_ALONE = textwrap.dedent(
    """
    import sys
    from semivit_jax.hosts.agreement import any_host
    from semivit_jax.hosts.cluster import Cluster, start
    from semivit_jax.hosts.stopping import end_within

    address, num_processes, process_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start(Cluster(address, num_processes, process_id, coordinator_timeout_seconds=30.0))
    any_host(False)
    if process_id == 1:
        end_within(0.5, exit_code=1)
        raise OSError("the disk of this host is full")
    any_host(False)
    """
)


@dataclasses.dataclass(frozen=True)
class Finished:
    """What one process left behind."""

    returncode: int
    lines: list[str]


def start_members(
    program: str, address: str, *, num_processes: int, process_ids: list[int]
) -> list[subprocess.Popen[str]]:
    """Starts the program in the given processes, with 2 simulated CPU devices each."""
    environ = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(num_processes), str(process_id)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process_id in process_ids
    ]


def finish(members: list[subprocess.Popen[str]]) -> list[Finished]:
    """Waits for all of them; none outlives the test."""
    try:
        outputs = [member.communicate(timeout=90)[0] for member in members]
    finally:
        for member in members:
            member.kill()
    return [
        Finished(returncode=member.returncode, lines=output.splitlines())
        for member, output in zip(members, outputs, strict=True)
    ]


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_two_processes_come_together_agree_and_name_the_odd_one_out(free_port):
    members = finish(start_members(MEMBER, f"127.0.0.1:{free_port}", num_processes=2, process_ids=[0, 1]))
    for member in members:
        assert member.returncode == 0, "\n".join(member.lines)
        assert "devices 2 4" in member.lines
        assert "any True False" in member.lines
        assert "equal facts pass" in member.lines
        host = socket.gethostname()
        assert "together True" in member.lines
        assert [line for line in member.lines if line.startswith("failed:")] == [
            f"failed: ClusterError process 1 (host {host}): disk full",
            "failed: OSError no such folder",
            f"failed: ClusterError process 0 (host {host}): disk 0 full; process 1 (host {host}): disk 1 full",
            f"failed: ClusterError process 0 (host {host}): read-only",
        ]
    refusals = [[line for line in member.lines if line.startswith("refused:")] for member in members]
    odd = f"process 1 (host {socket.gethostname()}) differs from the other 1"
    for different_values, different_names, one_more_name in refusals:
        assert different_values == (f"refused: the hosts of this run disagree. config: {odd}; listing: {odd}")
        assert f"processes check different facts: {odd}" in different_names
        assert f"processes check different facts: {odd}" in one_more_name
    assert refusals[0][0] == refusals[1][0], "all hosts leave with the same message"


def test_a_process_whose_coordinator_has_an_unknown_name_fails_at_once():
    (member,) = finish(start_members(MEMBER, "nowhere.invalid:8476", num_processes=2, process_ids=[1]))
    assert member.returncode == 1
    assert "process 1 of 2" in member.lines[-1]
    assert "cannot resolve the coordinator address nowhere.invalid:8476" in member.lines[-1]


def test_a_process_that_fails_alone_does_not_wait_for_the_others(free_port):
    waiting, failing = start_members(FAILS_ALONE, f"127.0.0.1:{free_port}", num_processes=2, process_ids=[0, 1])
    try:
        output, _ = failing.communicate(timeout=30)
        assert waiting.poll() is None
    finally:
        waiting.kill()
        waiting.communicate()
        failing.kill()
    assert failing.returncode == 1
    assert "OSError: the disk of this host is full" in output


def test_one_process_needs_nobody(monkeypatch):
    for variable in ("SEMIVIT_COORDINATOR", "SEMIVIT_NUM_PROCESSES", "SEMIVIT_PROCESS_ID"):
        monkeypatch.delenv(variable, raising=False)
    spec = Cluster(coordinator_address="", num_processes=1, process_id=0, coordinator_timeout_seconds=1.0)
    assert start(spec).num_processes == 1
    same_on_every_host({"config": "anything"})
    assert any_host(True)
    assert not any_host(False)


@pytest.mark.parametrize(
    ("digests", "odd"),
    [
        ([b"a", b"a", b"a"], []),
        ([b"a", b"b", b"a"], [1]),
        ([b"b", b"a", b"a"], [0]),  # process 0 is not right by being first
        ([b"a", b"b"], [1]),
        ([b"a", b"b", b"c", b"c"], [0, 1]),
    ],
)
def test_the_minority_is_the_odd_one_out(digests, odd):
    assert _odd_ones_out(digests) == odd


def test_several_odd_ones_are_all_named():
    assert _differing([0, 2], ["a", "b", "c", "d", "e"]) == (
        "process 0 (host a), process 2 (host c) differ from the other 3"
    )
