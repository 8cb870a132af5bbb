"""Every second since the first start has one place in a run's account, through kills, rollbacks and restarts."""

import contextlib
import json
import logging

import pytest

from semivit_jax import files
from semivit_jax.training import goodput
from semivit_jax.training.goodput import Book


class Clock:
    """Time as a test lets it pass."""

    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds

    def tick(self, seconds):
        self.seconds += seconds


@pytest.fixture
def clock():
    return Clock()


def begun(clock, before=None, stage="semi"):
    """The book of a start that took 1 s to set up, 2 s to restore and 3 s to compile."""
    book = Book(clock)
    if before is not None:
        book.go_on(before)
    clock.tick(1)
    book.begin(stage)
    with book.during("restoring"):
        clock.tick(2)
    with book.during("compiling"):
        clock.tick(3)
    return book


def train(book, clock, seconds):
    with book.during("training"):
        clock.tick(seconds)


def evaluate_and_stop(book, clock):
    with contextlib.suppress(KeyboardInterrupt), book.during("evaluating"):
        clock.tick(1)
        raise KeyboardInterrupt


def parts(account):
    return {part: seconds for part, seconds in goodput.totals(account).items() if seconds}


def assert_whole(book, clock):
    """Nothing is missing, and nothing is counted twice."""
    assert sum(goodput.totals(book.now()).values()) == pytest.approx(clock() - 1_000.0)


def test_phases_within_others_take_their_time_from_them(clock):
    book = begun(clock)
    with book.during("training"):
        clock.tick(10)
        with book.during("waiting"):
            clock.tick(4)
        clock.tick(6)
        evaluate_and_stop(book, clock)
    assert parts(book.now()) == {
        "starting": 1, "restoring": 2, "compiling": 3, "training": 16, "waiting": 4, "evaluating": 1
    }  # fmt: skip
    assert goodput.share(book.now()) == 16 / 27
    assert_whole(book, clock)


def test_after_a_kill_the_steps_since_the_checkpoint_are_lost_and_the_time_between_is_down(clock):
    book = begun(clock)
    train(book, clock, 100)
    kept = book.of_steps()  # what the checkpoint says
    train(book, clock, 30)
    last_sign = book.now()
    clock.tick(5)  # killed here
    clock.tick(200)
    book = begun(clock, last_sign)
    book.go_back(kept)
    train(book, clock, 40)
    assert parts(book.now()) == {
        "starting": 2, "restoring": 4, "compiling": 6, "training": 140, "lost": 30, "down": 205
    }  # fmt: skip
    assert book.now().starts == 2
    assert_whole(book, clock)


def test_killed_before_the_first_checkpoint_all_its_steps_are_lost_but_those_of_the_stage_before(clock):
    book = begun(clock, stage="mae")
    train(book, clock, 50)
    book.begin("semi")
    train(book, clock, 20)
    book = begun(clock, book.now(), stage="semi")
    book.go_back({})
    assert parts(book.now())["training"] == 50
    assert parts(book.now())["lost"] == 20
    assert_whole(book, clock)


def test_a_rollback_loses_what_it_skips_and_the_same_again_at_a_later_kill(clock):
    book = begun(clock)
    train(book, clock, 10)
    kept = book.of_steps()
    train(book, clock, 7)
    book.go_back(kept)
    train(book, clock, 5)
    assert (parts(book.now())["training"], parts(book.now())["lost"]) == (15, 7)
    book = begun(clock, book.now())
    book.go_back(kept)
    assert (parts(book.now())["training"], parts(book.now())["lost"]) == (10, 12)
    assert_whole(book, clock)


def test_a_checkpoint_that_knows_of_more_than_was_written_down_takes_it_from_what_seemed_down(clock):
    book = begun(clock)
    written = book.now()
    train(book, clock, 20)
    kept = book.of_steps()
    clock.tick(100)  # killed at once, before the next writing
    book = begun(clock, written)
    book.go_back(kept)
    assert (parts(book.now())["training"], parts(book.now())["down"]) == (20, 100)
    assert_whole(book, clock)


def test_a_stage_that_is_finished_costs_a_later_start_nothing(clock):
    book = begun(clock, stage="mae")
    train(book, clock, 50)
    book.begin("")
    book = Book(clock)
    book.go_on(begun(clock, stage="mae").now())
    before = book.now().spent["mae"]
    clock.tick(2)
    book.begin("semi")
    train(book, clock, 5)
    assert book.now().spent["mae"] == before
    assert book.now().spent["semi"] == {"starting": 0, "training": 5}


def test_a_machine_whose_clock_is_behind_was_never_down(clock):
    before = begun(clock).now()
    clock.tick(-500)
    assert parts(begun(clock, before).now()) == {"starting": 2, "restoring": 4, "compiling": 6}


def test_the_account_is_kept_in_the_workdir(clock, tmp_path):
    for start in (1, 2):
        book = Book(clock)
        clock.tick(3)
        with goodput.kept(book, files.path(tmp_path), first_host=True):
            train(book, clock, 10)
        stored = json.loads((tmp_path / goodput.FILE).read_text())
        assert stored == {"spent": {"": {"starting": 3.0 * start, "training": 10.0 * start}},
                          "lost": 0.0, "down": 60.0 * (start - 1), "starts": start, "until": clock()}  # fmt: skip
        clock.tick(60)


def test_it_is_written_while_nothing_happens(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(goodput, "WRITE_SECONDS", 0.01)
    with goodput.kept(Book(clock), files.path(tmp_path), first_host=True):
        clock.tick(7)
        while json.loads((tmp_path / goodput.FILE).read_text())["until"] != clock():
            pass


def test_other_hosts_write_nothing(clock, tmp_path):
    with goodput.kept(Book(clock), files.path(tmp_path), first_host=False):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[1]", '{"spent": {}}'])
def test_what_cannot_be_read_is_said_and_stops_nothing(content, clock, tmp_path, caplog):
    (tmp_path / goodput.FILE).write_text(content)
    with caplog.at_level(logging.WARNING), goodput.kept(Book(clock), files.path(tmp_path), first_host=True):
        pass
    assert "the time of earlier starts is not counted" in caplog.text
    assert json.loads((tmp_path / goodput.FILE).read_text())["starts"] == 1


def test_what_cannot_be_written_is_said_and_stops_nothing(clock, tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING), goodput.kept(Book(clock), files.path(tmp_path / "file"), first_host=True):
        pass
    assert "cannot be written" in caplog.text
