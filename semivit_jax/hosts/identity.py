"""Tell this process from every other one, and whether another one is known to be gone."""

import dataclasses
import os
import socket


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of one machine; '' stands for what a system does not tell.

    Attributes:
      host: name of the machine, for people.
      machine: identity of its installation.
      boot: of its present start.
      namespace: in which `pid` counts; a container has one of its own.
      pid: number of the process.
      started: when the process began, in ticks since the boot; tells it from a later one of the same number.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Process:
    """The process that asks."""
    namespace = "/proc/self/ns/pid"
    return Process(
        host=socket.gethostname(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=os.readlink(namespace) if os.path.lexists(namespace) else "",
        pid=os.getpid(),
        started=_started(os.getpid()),
    )


def is_neighbour(other: Process, here: Process) -> bool:
    """Whether the two can see each other: numbers of one machine's processes in its present boot."""
    return bool(other.boot) and (other.boot, other.namespace) == (here.boot, here.namespace)


def is_gone(other: Process, here: Process) -> bool:
    """Whether a process is known to have ended: a neighbour that is no more, or one of this machine's earlier boots."""
    if is_neighbour(other, here):
        return _started(other.pid) != other.started
    # Images of machines and containers are copied with what identifies an installation, but seldom with the name.
    installed = (other.machine, other.host) == (here.machine, here.host)
    return bool(other.machine and other.boot) and installed and other.boot != here.boot


def _started(pid: int) -> str:
    """When a process began; '' where there is none, or one that has ended and is only still listed."""
    state, *rest = _text(f"/proc/{pid}/stat").rpartition(")")[2].split() or [""]
    return rest[18] if len(rest) > 18 and state not in ("Z", "X") else ""


def _text(place: str) -> str:
    """Content of a small file of the system; '' where there is none to read."""
    try:
        with open(place, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
