"""Ask a disk about many files at once, where asking waits; where it does not, one after the other is quicker."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")

_THREADS = 16  # they wait for the disk or the network, not for the processor: more than cores
_ROUND = 64  # parts that threads share before it is tried again whether asking waits
_WAITS = 4.0  # times as long as the processor is busy; a busy machine alone comes near 2 or 3


def overlapped(ask: Callable[[_Part], _Answer], parts: Sequence[_Part]) -> Iterator[_Answer]:
    """`ask(part)` of every part, in their order.

    Threads of one interpreter that never wait only take turns, which doubles the time of files whose metadata is in
    memory. So a part is asked alone now and then, and the next ones by threads if it mostly waited.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        place = 0
        while place < len(parts):
            begun, busy = time.perf_counter(), time.thread_time()
            answer = ask(parts[place])
            waited = time.perf_counter() - begun > _WAITS * (time.thread_time() - busy)
            yield answer
            place += 1
            if waited:
                yield from threads.map(ask, parts[place : place + _ROUND])
                place += _ROUND
