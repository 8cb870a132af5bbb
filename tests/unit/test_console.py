"""What people read comes from one host."""

import itertools
import re
import time

import jax
import pytest

from semivit_jax import console


@pytest.mark.parametrize(("host", "said"), [(0, "one line\n"), (1, "")])
def test_the_first_host_speaks_for_all(host, said, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: host)
    console.say("one line")
    assert capsys.readouterr().out == said


# ---- nothing long is silent


@pytest.fixture
def hurried(monkeypatch):
    """A line every twentieth of a second, in the place of ten seconds."""
    monkeypatch.setattr(console, "SECONDS_BETWEEN_PLAIN_LINES", 0.05)


def test_what_has_steps_is_counted_now_and_then(monkeypatch, capsys):
    now, seen = [0.0], []
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    for item in console.track("abcd", "reading", total=4):
        seen.append(item)
        now[0] += 6
    assert seen == list("abcd")
    assert capsys.readouterr().out.splitlines() == ["reading: 2 of 4", "reading: 4 of 4"]


def test_what_has_none_tells_its_time(hurried, capsys):
    with console.working("compiling"):
        time.sleep(0.17)
    told = capsys.readouterr().out.splitlines()
    assert 2 <= len(told) <= 3
    assert all(re.fullmatch(r"compiling: 0 s so far", line) for line in told)


def test_what_is_quick_is_silent(capsys):
    with console.working("compiling"):
        assert list(console.track("abcd", "reading", total=4)) == list("abcd")
    assert not capsys.readouterr().out


def test_an_error_ends_the_telling(hurried, capsys):
    with pytest.raises(ValueError, match="midway"), console.working("compiling"):
        raise ValueError("midway")
    time.sleep(0.1)
    assert not capsys.readouterr().out


def test_quiet_shows_no_progress_and_the_lines_all_the_same(hurried, monkeypatch, capsys):
    monkeypatch.setattr(console, "_quiet", False)
    console.hush()
    with console.working("compiling"):
        for _ in console.track("abcd", "reading", total=4):
            time.sleep(0.03)
    line = console.ProgressLine("training", 4, active=True, shown={})
    line.show(4, {})
    console.say("done")
    assert capsys.readouterr().out == "done\n"


def test_a_bar_on_a_terminal_gives_all_items(monkeypatch):
    monkeypatch.setattr(console.console, "_force_terminal", True)
    assert list(console.track(itertools.repeat("x", 3), "reading", total=3)) == ["x"] * 3
