"""Let the processes of a run agree outside of the step: ask any, ask the first, fail together.

`same_on_every_host` and `any_host` are questions; `from_first_host`, `arrays_from_first_host`, `on_first_host` and
`wait_for_all` keep processes together where only the first host reads or writes, `together` and `fail_together` where
some host may fail.
Every process must call them, in the same order, or the others wait.
"""

import collections
import hashlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from semivit_jax.hosts.environment import ClusterError

T = TypeVar("T")

_HOST_NAME_BYTES = 64  # what is gathered must have one size; longer names are cut
_TEXT_BYTES = 2048


def same_on_every_host(facts: Mapping[str, str]) -> None:
    """Raises ClusterError, on every host alike, unless all hosts hold the same facts.

    Collective: every process must call it. Only hashes travel.

    Args:
      facts: name -> text of any length, e.g. {"config": ..., "code version": ..., "listing": ...}; the names
        must be the same everywhere too.

    Raises:
      ClusterError: names each fact that differs, and the processes and hosts that differ from the majority.
    """
    if jax.process_count() == 1:
        return
    names = sorted(facts)
    host_name = socket.gethostname().encode()[:_HOST_NAME_BYTES].ljust(_HOST_NAME_BYTES, b"\0")
    # The names go first: with different names the second message would differ in size, and gathering it hang.
    heads = _gather(np.frombuffer(_digest("\n".join(names)) + host_name, np.uint8)[np.newaxis])
    hosts = [bytes(head[0, 32:]).rstrip(b"\0").decode(errors="replace") for head in heads]
    odd = _odd_ones_out([bytes(head[0, :32]) for head in heads])
    if odd:
        raise ClusterError(f"processes check different facts: {_differing(odd, hosts)} (here: {names})")
    digests = _gather(np.stack([np.frombuffer(_digest(facts[name]), np.uint8) for name in names]))
    disagreements = []
    for index, name in enumerate(names):
        odd = _odd_ones_out([bytes(process[index]) for process in digests])
        if odd:
            disagreements.append(f"{name}: {_differing(odd, hosts)}")
    if disagreements:
        raise ClusterError("the hosts of this run disagree. " + "; ".join(disagreements))


def any_host(flag: bool) -> bool:
    """Whether the flag is set on any process. Collective: every process must call it, at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(_gather(np.asarray([flag], np.uint8)).any())


def fail_together(error: Exception | None) -> None:
    """Raises on every process where one has an error; returns where none has.

    Collective: every process must call it, those without an error too. Errors that all have in the same words are
    raised as they are.

    Raises:
      ClusterError: names the processes with an error and says what each says.
    """
    if not any_host(error is not None):
        return
    if jax.process_count() == 1:
        assert error is not None
        raise error
    told = _gather_text("" if error is None else str(error))
    if error is not None and len(set(told)) == 1:
        raise error
    hosts = _gather_text(socket.gethostname())
    failed = [f"process {i} (host {hosts[i]}): {text}" for i, text in enumerate(told) if text]
    raise ClusterError("; ".join(failed)) from error


def together(action: Callable[[], T], *, errors: tuple[type[Exception], ...]) -> T:
    """The action's result; where it ends with one of these errors on some process, all fail (`fail_together`).

    Collective. The action itself must not wait for other processes.
    """
    failed = result = None
    try:
        result = action()
    except errors as error:
        failed = error
    fail_together(failed)
    return cast(T, result)


def on_first_host(action: Callable[[], object]) -> None:
    """Runs it on the first host alone; where that ends with an OSError, all fail (`fail_together`). Collective."""
    together(lambda: None if jax.process_index() else action(), errors=(OSError,))


def from_first_host(value: int) -> int:
    """The first host's value, on every host; what hosts read from a shared folder may differ for moments.

    Collective: every process must call it. The other hosts' values are ignored.
    """
    if jax.process_count() == 1:
        return value
    return int(_gather(np.asarray([value], np.int32))[0, 0])


def arrays_from_first_host(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The first host's arrays, on every host; the others give arrays of the same shapes and types, which are ignored.

    Collective: every process must call it.
    """
    if jax.process_count() == 1:
        return list(arrays)
    sent = [np.frombuffer(array.tobytes(), np.uint8) for array in arrays]  # as numbers, float64 would become float32
    found = multihost_utils.broadcast_one_to_all(sent)
    return [
        np.frombuffer(np.asarray(raw, np.uint8).tobytes(), array.dtype).reshape(array.shape)
        for raw, array in zip(found, arrays, strict=True)
    ]


def wait_for_all(reason: str) -> None:
    """Returns once every process has called it, with the same reason. Collective."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def _gather(array: np.ndarray) -> np.ndarray:
    """[processes, ...] from every process's array of one shape."""
    return np.asarray(multihost_utils.process_allgather(array))


def _gather_text(text: str) -> list[str]:
    """Every process's text, cut to what travels."""
    sent = text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0")
    found = _gather(np.frombuffer(sent, np.uint8))
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in found]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _odd_ones_out(digests: list[bytes]) -> list[int]:
    """Processes that do not hold the most frequent digest; of equally frequent ones, the first met counts."""
    majority, _ = collections.Counter(digests).most_common(1)[0]
    return [process for process, digest in enumerate(digests) if digest != majority]


def _differing(odd: list[int], hosts: list[str]) -> str:
    names = ", ".join(f"process {process} (host {hosts[process]})" for process in odd)
    return f"{names} differ{'s' if len(odd) == 1 else ''} from the other {len(hosts) - len(odd)}"
