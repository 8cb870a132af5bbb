"""Two real processes, one of which stands still: the first says so, and both end as if nothing had happened."""

import signal

import pytest

from tests.e2e.planned import PLANNED


@pytest.mark.slow
def test_a_process_that_stands_still_is_named_and_the_run_goes_on(machine, tmp_path):
    """Compiled beforehand, so that only the process that stands still takes so long."""
    options = {"processes": 2, "quick": PLANNED, "changes": {"stages": ("semi",), "train.hang_minutes": 0.05},
               "altered": {"trouble": {}}}  # fmt: skip
    machine.finish(tmp_path / "before", **options)
    started = machine.start(tmp_path / "run", **options)
    try:
        assert started.until(started.says("compiling the step")), started.output()
        started.send(signal.SIGSTOP, only=1)
        assert started.until(started.says("who waits for what")), started.output()
        started.send(signal.SIGCONT, only=1)
        assert started.wait() == [0, 0], started.output()
    finally:
        started.kill()
    said = started.processes[0].text()
    assert "no word of process 1, which may go on, or be gone" in said
    assert "goes on" in said.partition("no word of process 1")[2]
    assert "most recent call first" in next((tmp_path / "run" / "hangs").glob("*_process_0.txt")).read_text()
