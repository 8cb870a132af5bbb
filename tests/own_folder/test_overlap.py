"""Asking a disk about files: by threads where it waits, alone where it does not, in order both ways."""

import threading
import time

import pytest

from semivit_jax.data.sources.overlap import overlapped


@pytest.mark.parametrize("waits", [False, True])
def test_answers_come_in_order_from_as_many_threads_as_pay(waits: bool):
    askers: dict[int, set[str]] = {}

    def ask(part: int) -> int:
        if waits:
            time.sleep(0.002 if part % 2 else 0.004)
        else:
            sum(range(20_000))
        askers.setdefault(part, set()).add(threading.current_thread().name)
        return 10 * part

    parts = range(150)
    assert list(overlapped(ask, parts)) == [10 * part for part in parts]
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
        list(overlapped(ask, range(150)))


def test_nothing_is_asked_about_nothing():
    assert list(overlapped(len, [])) == []
