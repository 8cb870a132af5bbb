"""Asking a disk about files: by threads where it waits, alone where it does not, in order both ways."""

import threading
import time
import types

import pytest

from semivit_jax.data.sources import overlap


@pytest.mark.parametrize(("seconds", "waits"), [(1.0, False), (4.0, False), (4.1, True)])
def test_answers_come_in_order_from_as_many_threads_as_pay(seconds: float, waits: bool, monkeypatch):
    """By clocks of its own: on a busy machine a part that never waits may be kept from the processor for long."""
    askers: dict[int, set[str]] = {}
    wall, busy = [0.0], [0.0]
    clocks = types.SimpleNamespace(perf_counter=lambda: wall[0], thread_time=lambda: busy[0])
    monkeypatch.setattr(overlap, "time", clocks)

    def ask(part: int) -> int:
        wall[0], busy[0] = wall[0] + seconds, busy[0] + 1.0
        if waits:
            time.sleep(0.002 if part % 2 else 0.004)
        askers.setdefault(part, set()).add(threading.current_thread().name)
        return 10 * part

    parts = range(150)
    assert list(overlap.overlapped(ask, parts)) == [10 * part for part in parts]
    assert all(len(names) == 1 for names in askers.values())  # nothing is asked twice
    others = set.union(*askers.values()) - {threading.current_thread().name}
    assert len(others) > 4 if waits else not others


def test_what_goes_wrong_in_a_thread_is_told():
    def ask(part: int) -> int:
        time.sleep(0.002)
        if part == 100:
            raise ValueError("part 100")
        return part

    with pytest.raises(ValueError, match="part 100"):
        list(overlap.overlapped(ask, range(150)))


def test_nothing_is_asked_about_nothing():
    assert list(overlap.overlapped(len, [])) == []
