"""What people read comes from one host."""

import io
import itertools
import logging
import queue
import re
import time

import jax
import pytest
from rich.console import Console

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


@pytest.fixture
def awaited(hurried, monkeypatch):
    """Waits for the next line; gives it."""
    said = queue.Queue()
    monkeypatch.setattr(console, "say", said.put)
    return lambda: said.get(timeout=20)


def test_what_has_steps_is_told_with_rate_and_time_left_also_while_the_first_one_lasts(awaited):
    told = {item: awaited() for item in console.track("abcd", "reading", total=4)}
    assert list(told) == list("abcd")
    assert told["a"] == "reading: 0 of 4, 0 s so far"
    assert re.fullmatch(r"reading: [23] of 4, [\d.]+/s, 0:00:0\d left", told["d"])


def test_what_was_done_before_says_nothing_of_the_rate(awaited):
    with console.counting("writing", total=1_100, before=1_000) as count:
        count(1_050)
        rate, left = re.fullmatch(r"writing: 1,050 of 1,100, ([\d,.]+)/s, (\S+) left", awaited()).groups()
    assert float(rate.replace(",", "")) <= 50 / 0.05
    assert left.startswith("0:00:")


def test_what_has_none_tells_its_time_again_and_again(awaited):
    with console.working("compiling"):
        told = [awaited(), awaited()]
    assert all(re.fullmatch(r"compiling: \d s so far", line) for line in told)


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


# ---- on a terminal


@pytest.fixture
def terminal(monkeypatch):
    """Draws as on a terminal `width` wide; gives what has been written."""

    def of(width, **environ):
        written = io.StringIO()
        console_there = Console(
            file=written, force_terminal=True, width=width, _environ={"TERM": "xterm", **environ}, highlight=False
        )
        monkeypatch.setattr(console, "console", console_there)
        return written

    return of


def frames(written):
    """The lines that were drawn, without colours and movements."""
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()))
    return [line.strip() for line in lines if line.strip()]


TITLE = "grading runs/mine/semi/checkpoints/300 (ema_params), batches"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_bar_keeps_to_its_line_and_its_numbers_are_whole(width, terminal):
    written = terminal(width)
    assert list(console.track(itertools.repeat("x", 1_200), TITLE, total=1_200)) == ["x"] * 1_200
    line = console.ProgressLine("semi", 900, active=True, shown={})
    line.show(900, {"train/loss": 1.234, "perf/images_per_sec": 1234.5})
    line.close()
    counted = next(frame for frame in reversed(frames(written)) if frame.startswith("grading"))
    trained = frames(written)[-1]
    assert re.search(r" 1,200/1,200 [\d,]+/s 0:00:00$", counted)
    assert re.search(r" 900/900 \S+ loss 1\.", trained)
    assert max(map(len, frames(written))) <= width


def test_what_has_no_steps_shows_its_time_inside_a_bar_too(terminal):
    written = terminal(80)
    line = console.ProgressLine("semi", 900, active=True, shown={})
    with console.working("semi: evaluating"):
        pass
    line.close()
    assert any(re.fullmatch(r"\S semi: evaluating 0:00:00", frame) for frame in frames(written))
    assert written.getvalue().rindex("\x1b[?25h") > written.getvalue().rindex("\x1b[?25l")  # the cursor is back


def test_no_color_is_honoured(terminal):
    written = terminal(80, NO_COLOR="1")
    list(console.track("abcd", "reading", total=4))
    assert "4/4" in written.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*m", written.getvalue().replace("\x1b[0m", ""))


def test_a_terminal_that_cannot_draw_gets_lines(hurried, terminal):
    written = terminal(80, TERM="dumb")
    for _ in console.track("abcd", "reading", total=4):
        time.sleep(0.03)
    assert frames(written)[-1].startswith("reading: ")
    assert "\x1b" not in written.getvalue()


def test_what_is_said_of_images_is_said_once_in_a_command_and_all_else_every_time(capsys):
    of_images, other = (logging.getLogger(f"semivit_jax.{name}") for name in ("data.splits", "files.bucket"))
    for _ in range(2):  # commands
        console.show_warnings()
        for log in (of_images, other, of_images, other):
            log.warning("%s is away", log.name)
    said = capsys.readouterr().out
    assert said.count("semivit_jax.data.splits is away") == 2
    assert said.count("semivit_jax.files.bucket is away") == 4
