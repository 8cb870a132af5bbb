"""What can be wrong with the coordinator's address is told early, and names it."""

import socket
import threading
import time

import pytest

from semivit_jax.hosts import coordinator
from semivit_jax.hosts.coordinator import Address
from semivit_jax.hosts.environment import ClusterError


@pytest.fixture
def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("text", ["host", "host:", ":80", "host:0", "host:65536", "host:http", ""])
def test_a_malformed_address_is_named(text):
    with pytest.raises(ClusterError, match="legal is host:port"):
        coordinator.parse(text)


def test_ipv6_addresses_are_bracketed():
    assert coordinator.parse("[::1]:8476") == Address(host="::1", port=8476)


def test_an_unknown_name_is_an_error_at_once():
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"process 1 .* cannot resolve .* nowhere\.invalid:8476"):
        coordinator.resolve(Address(host="nowhere.invalid", port=8476), caller="process 1")
    assert time.monotonic() - started < 5


def test_a_closed_port_is_reported_again_and_again_and_then_given_up(closed_port, monkeypatch):
    monkeypatch.setattr(coordinator, "_ATTEMPT_EVERY_SECONDS", 0.05)
    reports: list[str] = []
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"cannot reach the coordinator 127.0.0.1:{closed_port}.* gave up"):
        coordinator.wait_until_reachable(
            Address(host="127.0.0.1", port=closed_port),
            caller="process 1",
            timeout_seconds=0.4,
            report_every_seconds=0.1,
            report=reports.append,
        )
    assert 0.4 <= time.monotonic() - started < 2.4
    assert len(reports) >= 2
    assert all(f"127.0.0.1:{closed_port}" in report for report in reports)


def test_a_coordinator_that_comes_later_is_waited_for(closed_port, monkeypatch):
    monkeypatch.setattr(coordinator, "_ATTEMPT_EVERY_SECONDS", 0.05)
    servers: list[socket.socket] = []
    opening = threading.Timer(0.3, lambda: servers.append(socket.create_server(("127.0.0.1", closed_port))))
    opening.start()
    coordinator.wait_until_reachable(
        Address(host="127.0.0.1", port=closed_port),
        caller="process 1",
        timeout_seconds=10.0,
        report_every_seconds=10.0,
        report=pytest.fail,  # a short delay is no news
    )
    opening.join()
    servers[0].close()


def test_process_0_recognises_its_own_address(closed_port):
    coordinator.check_is_here(Address(host="localhost", port=closed_port), caller="process 0")


def test_process_0_refuses_an_address_that_leads_elsewhere(closed_port):
    broadcast = Address(host="255.255.255.255", port=closed_port)  # no host's own, and refused at once
    with pytest.raises(ClusterError, match=rf"255\.255\.255\.255:{closed_port} .* is not .* process 0 runs"):
        coordinator.check_is_here(broadcast, caller="process 0")


def test_an_answer_by_another_listener_is_not_taken_for_ones_own(closed_port, monkeypatch):
    monkeypatch.setattr(coordinator, "_ARRIVES_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", closed_port)) as own,
        socket.create_server(("127.0.0.2", closed_port)),
    ):
        assert coordinator._reaches("127.0.0.1", closed_port, listener=own)
        with socket.create_connection(("127.0.0.1", closed_port)) as another:  # process that knocks
            another.sendall(b"the token of another run")
        assert not coordinator._reaches("127.0.0.2", closed_port, listener=own)


def test_knocks_of_other_processes_do_not_confuse_process_0(closed_port):
    with socket.create_server(("127.0.0.1", closed_port)) as own:
        for _ in range(3):
            socket.create_connection(("127.0.0.1", closed_port)).close()
        assert coordinator._reaches("127.0.0.1", closed_port, listener=own)


def test_process_0_refuses_a_port_in_use():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match=f"cannot serve as coordinator localhost:{port}"):
            coordinator.check_is_here(Address(host="localhost", port=port), caller="process 0")
