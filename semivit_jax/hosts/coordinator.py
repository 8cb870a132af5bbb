"""Try the coordinator's address over plain TCP before jax depends on it.

The coordinator is a service that process 0 opens under "host:port" and all processes call. These functions
turn what can be wrong with the address into errors that name it: malformed, an unknown name, another host's,
out of reach.
"""

import contextlib
import dataclasses
import secrets
import socket
import time
from collections.abc import Callable

from semivit_jax.hosts.environment import ClusterError

# One attempt to connect: a host that drops packets would otherwise hold it for minutes.
_CONNECT_SECONDS = 10.0
# From one attempt to the next where the host refuses at once: processes start seconds apart.
_ATTEMPT_EVERY_SECONDS = 0.5
# For one's own connection to arrive: once accepted for us it already waits in the queue.
_ARRIVES_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Address:
    """Where the coordinator listens: host name or IP address, and TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Splits "host:port", or "[::1]:port" for IPv6; ClusterError names any other text."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ClusterError(f"coordinator address {text!r}; legal is host:port with a port from 1 to 65535")
    return Address(host=host.strip("[]"), port=int(port))


def resolve(address: Address, *, caller: str) -> list[str]:
    """IP addresses of the host.

    Args:
      address: the coordinator's.
      caller: who asks, for the message.

    Raises:
      ClusterError: the name cannot be resolved.
    """
    try:
        answers = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ClusterError(
            f"{caller} on {socket.gethostname()} cannot resolve the coordinator address {address}: {error}"
        ) from error
    return sorted({str(answer[4][0]) for answer in answers})


def wait_until_reachable(
    address: Address,
    *,
    caller: str,
    timeout_seconds: float,
    report_every_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Returns once a TCP connection to the coordinator succeeds.

    Args:
      address: the coordinator's.
      caller: who asks, for messages.
      timeout_seconds: when to give up.
      report_every_seconds: how often to say what is being waited for.
      report: receives that line, which names the address.

    Raises:
      ClusterError: no connection within `timeout_seconds`.
    """
    started = time.monotonic()
    next_report_seconds = report_every_seconds
    while True:
        left = timeout_seconds - (time.monotonic() - started)
        try:
            with socket.create_connection((address.host, address.port), timeout=max(0.1, min(_CONNECT_SECONDS, left))):
                return
        except OSError as error:
            waited = time.monotonic() - started
            state = f"{caller} on {socket.gethostname()} cannot reach the coordinator {address}: {error}"
            if waited >= timeout_seconds:
                raise ClusterError(
                    f"{state}; gave up after {waited:.0f} s. Is process 0 running there, and the port open?"
                ) from error
        if waited >= next_report_seconds:
            report(f"{state}; waited {waited:.0f} of {timeout_seconds:.0f} s")
            next_report_seconds += report_every_seconds
        time.sleep(min(_ATTEMPT_EVERY_SECONDS, max(0.0, timeout_seconds - waited)))


def check_is_here(address: Address, *, caller: str) -> None:
    """Raises ClusterError unless the coordinator's address leads to this very process.

    Process 0 serves on all its interfaces and then calls itself under the address that the others use. With
    a wrong host it would wait for itself in vain, so the call is rehearsed: listen, connect, expect a token.

    Args:
      address: the coordinator's; its name resolves.
      caller: who asks, for messages.
    """
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        listener = socket.create_server(
            ("", address.port), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=128
        )
    except OSError as error:
        raise ClusterError(
            f"{caller} on {socket.gethostname()} cannot serve as coordinator {address}: {error}; "
            "another run on this host may have the port"
        ) from error
    with listener:
        numbers = resolve(address, caller=caller)
        if not any(_reaches(number, address.port, listener=listener) for number in numbers):
            raise ClusterError(
                f"the coordinator {address} ({', '.join(numbers)}) is not {socket.gethostname()}, where "
                f"{caller} runs; legal is an address of process 0"
            )


def _reaches(number: str, port: int, *, listener: socket.socket) -> bool:
    """Whether a connection to this IP address arrives at `listener`; other processes may knock meanwhile."""
    token = secrets.token_bytes(16)
    listener.settimeout(_ARRIVES_SECONDS)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((number, port), timeout=_CONNECT_SECONDS) as call,
    ):
        call.sendall(token)
        while True:
            answer, _ = listener.accept()
            with answer:
                answer.settimeout(1.0)
                if answer.recv(len(token)) == token:
                    return True
    return False
