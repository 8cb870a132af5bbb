"""Labels on the disk: what is done is there at once, comes back after a kill, and can all be undone."""

import csv
import os
import time
import uuid

import pytest

from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder import open_folder
from semivit_jax.labeling import asked as asking
from semivit_jax.labeling.asked import Refused
from semivit_jax.labeling.journal import JournalError, beside
from semivit_jax.labeling.store import Labels
from tests.labeling.conftest import HOSTILE, PLAIN

NAMES = sorted((*PLAIN, *HOSTILE), key=os.fsencode)
A, B, C, D = (NAMES.index(name) for name in PLAIN)


@pytest.fixture
def table(tmp_path):
    return tmp_path / "labels.csv"


@pytest.fixture
def begun(photos, table):
    """Opens the labels anew each time it is called, as a new start does."""
    opened = []

    def begin(**classes):
        if opened:
            opened[-1].close()
        opened.append(Labels(table, photos, NAMES, who="anna", **{"classes": (), **classes}))
        return opened[-1]

    yield begin
    opened[-1].close()


class Page:
    """What a page does: it shows what it has heard, and asks with made up ids."""

    def __init__(self, labels):
        self.labels, self.number, self.name = labels, 0, uuid.uuid4().hex
        self.hear(labels.since(0))
        self.shown = {place: label for label, places in labels.snapshot()[1].items() for place in places}

    def hear(self, news):
        self.version, self.news = news.version, news
        self.shown = getattr(self, "shown", {}) | news.labels

    def ask(self, **action):
        self.number += 1
        raw = {"id": f"action-{self.name}-{self.number}", **action}
        answers, news = self.labels.act([asking.read(raw, num_images=len(NAMES))], self.version)
        self.hear(news)
        return answers[0]

    def label(self, label, *places, **action):
        seen = [self.shown.get(place, "") for place in places]
        return self.ask(do="label", images=list(places), seen=seen, label=label, **action)

    def undo(self):
        return self.ask(do="undo", of=self.news.undo.id if self.news.undo else "")

    def redo(self):
        return self.ask(do="redo", of=self.news.redo.id if self.news.redo else "")


def rows(table):
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return {row["path"]: row["label"] for row in csv.DictReader(opened)}


def test_every_action_is_in_the_table_and_the_journal_at_once(begun, table):
    page = Page(begun())
    page.label("oak", A, B)
    assert rows(table) == {"a.png": "oak", "b.png": "oak"}
    page.label(NONE_LABEL, C)
    page.label(None, D)
    assert rows(table) == {"a.png": "oak", "b.png": "oak", "sub/c.png": NONE_LABEL}
    entries = Page(begun()).labels._history.done
    assert [(entry.who, entry.do) for entry in entries] == [("anna", "label")] * 3
    assert entries[0].when.endswith("+00:00")
    assert Page(begun()).shown == {A: "oak", B: "oak", C: NONE_LABEL, D: None}


def test_undo_goes_back_to_the_beginning_across_starts_and_redo_forward(begun, table):
    page, states = Page(begun()), [{}]
    for do in (
        lambda: page.label("oak", A, B),
        lambda: page.label("ash", B),
        lambda: page.ask(do="add", name="elm"),
        lambda: page.ask(do="rename", name="oak", new="quercus"),
        lambda: page.label(None, C),
        lambda: page.ask(do="rename", name="quercus", new="ash"),
        lambda: page.label("", A),
    ):
        assert do().done
        states.append((dict(page.shown), list(page.news.classes)))
    assert rows(table) == {"b.png": "ash"}
    page = Page(begun())
    for shown, classes in reversed(states[1:-1]):
        assert page.undo().done
        assert (plain(page.shown), page.news.classes) == (plain(shown), classes)
    assert page.undo().done
    assert not plain(page.shown)
    assert not page.undo().done
    assert not any(rows(table).values())
    page = Page(begun())
    for shown, classes in states[1:]:
        assert page.redo().done
        assert (plain(page.shown), page.news.classes) == (plain(shown), classes)
    assert not page.redo().done


def plain(shown):
    return {place: label for place, label in shown.items() if label != ""}


def test_two_pages_do_not_overwrite_each_other(begun, table):
    labels = begun()
    one, two = Page(labels), Page(labels)
    one.label("oak", A)
    refused = two.label("ash", A, B)  # two still shows A without a label
    assert not refused.done
    assert "a.png is oak meanwhile" in refused.words
    assert rows(table) == {"a.png": "oak"}
    assert two.shown[A] == "oak"
    assert two.label("ash", A, B).done
    assert rows(table) == {"a.png": "ash", "b.png": "ash"}
    stale = one.undo()  # what one takes for the latest is not
    assert not stale.done
    assert "ash" in stale.words
    assert rows(table)["a.png"] == "ash"


def test_what_is_refused_is_told_as_it_is(begun, table):
    """A page has shown it as done already, and would go on to."""
    page = Page(begun())
    page.label("oak", A)
    page.shown |= {A: "nan", B: "nan"}  # which is shown before it is answered
    refused = page.ask(do="label", images=[A, B], seen=["oak", ""], label="nan")
    assert not refused.done
    assert (page.news.labels, page.shown[A], page.shown[B]) == ({A: "oak", B: ""}, "oak", "")
    time.sleep(0.01)
    table.write_text("no table")
    page.shown[C] = "oak"
    assert not page.ask(do="label", images=[C], seen=[""], label="oak").done
    assert page.shown[C] == ""


def test_a_class_that_a_table_has_brought_keeps_its_name(begun, table):
    table.write_text("path,label\na.png,red  oak\nb.png,wei\u00df\u200b\n")
    page = Page(begun())
    for place, name in ((C, "red  oak"), (D, "wei\u00df\u200b")):
        assert page.label(name, place).done
    assert rows(table) == {"a.png": "red  oak", "b.png": "wei\u00df\u200b", "sub/c.png": "red  oak",
                           "sub/d.png": "wei\u00df\u200b"}  # fmt: skip
    assert page.ask(do="rename", name="wei\u00df\u200b", new="red  oak").done
    assert page.news.classes == ["red  oak"]


def test_what_is_asked_for_again_is_done_once(begun):
    page = Page(begun())
    raw = {"id": "the-same-action", "do": "label", "images": [A], "seen": [""], "label": "oak"}
    wanted = asking.read(raw, num_images=len(NAMES))
    assert [page.labels.act([wanted], 0)[0][0].done for _ in range(2)] == [True, True]
    assert len(page.labels._history.done) == 1


def test_what_a_kill_left_out_of_the_table_comes_from_the_journal(begun, table):
    page = Page(begun())
    page.label("oak", A)
    before, times = table.read_bytes(), os.stat(table).st_mtime_ns
    page.label("ash", B)
    table.write_bytes(before)  # as if the process had been killed before the table was replaced
    os.utime(table, ns=(times, times))
    with open(beside(table), "ab") as journal:
        journal.write(b'{"id": "cut o')
    assert Page(begun()).shown == {A: "oak", B: "ash"}
    assert rows(table) == {"a.png": "oak", "b.png": "ash"}


@pytest.mark.parametrize("same_time", [True, False])
def test_an_edit_outlives_a_copy_that_makes_the_journal_the_younger_one(begun, table, same_time):
    page = Page(begun())
    page.label("oak", A)
    page.label("ash", B)
    table.write_text("path,label\na.png,elm\nb.png,ash\n")  # while nothing serves; then both are copied
    times = os.stat(beside(table)).st_mtime_ns - (0 if same_time else 10**9)
    os.utime(table, ns=(times, times))
    page = Page(begun())
    assert page.shown == {A: "elm", B: "ash"}
    assert page.undo().done
    assert rows(table)["a.png"] == "oak"


def test_a_kill_within_one_tick_of_the_clock_loses_nothing(begun, table):
    page = Page(begun())
    page.label("oak", A)
    before = table.read_bytes()
    page.label("ash", B)
    table.write_bytes(before)
    os.utime(table, ns=(times := os.stat(beside(table)).st_mtime_ns, times))
    assert Page(begun()).shown == {A: "oak", B: "ash"}


def test_a_table_behind_a_link_stays_there_and_as_private_as_it_was(begun, table, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("path,label\na.png,oak\n")
    kept.chmod(0o640)
    table.symlink_to(kept)
    Page(begun()).label("ash", B)
    assert table.is_symlink()
    assert rows(kept) == {"a.png": "oak", "b.png": "ash"}
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_table_that_is_gone_comes_back(begun, table):
    Page(begun()).label("oak", A)
    table.unlink()
    begun()
    assert rows(table) == {"a.png": "oak"}


def test_what_another_program_writes_is_taken_and_can_be_undone(begun, table):
    page = Page(begun())
    page.label("oak", A)
    time.sleep(0.01)
    table.write_text("path,label\na.png,ash\nsub/d.png,elm\n")
    assert page.label("oak", B).done
    assert rows(table) == {"a.png": "ash", "sub/d.png": "elm", "b.png": "oak"}
    assert set(page.news.classes) == {"oak", "ash", "elm"}
    page.undo()
    page.undo()
    assert rows(table)["a.png"] == "oak"
    assert not rows(table).get("sub/d.png")
    time.sleep(0.01)
    table.write_text("path,label\na.png,beech\n")  # while nothing serves
    assert Page(begun()).shown[A] == "beech"


def test_a_table_that_another_program_broke_is_left_alone(begun, table):
    page = Page(begun())
    page.label("oak", A)
    time.sleep(0.01)
    table.write_text('path,label\n"a.png,ash\n')
    refused = page.label("ash", B)
    assert not refused.done
    assert "another program has changed labels.csv" in refused.words
    assert "mended first" in page.labels.since(0).problem
    assert table.read_text() == 'path,label\n"a.png,ash\n'
    table.write_text("path,label\na.png,ash\n")
    assert page.label("ash", B).done
    assert rows(table) == {"a.png": "ash", "b.png": "ash"}


def test_a_table_that_cannot_be_written_is_told_of_and_written_later(begun, table, monkeypatch):
    page = Page(begun())
    monkeypatch.setattr("semivit_jax.files.writing", lambda file: (_ for _ in ()).throw(OSError(28, "No space left")))
    monkeypatch.setattr("semivit_jax.labeling.table.files.writing", _full)
    page.label("oak", A)
    assert "cannot be written, its journal is" in page.news.problem
    assert not table.exists()
    monkeypatch.undo()
    page.label("ash", B)
    assert not page.news.problem
    assert rows(table) == {"a.png": "oak", "b.png": "ash"}


def _full(file):
    raise OSError(28, "No space left on device")


def test_columns_and_rows_of_the_table_stay(begun, table):
    table.write_text("n;path;label;note\n1;sub/c.png;oak;by the river\n2;a.png;;\n")
    page = Page(begun())
    assert page.shown == {C: "oak"}
    page.label("ash", B)
    page.label("", C)
    assert table.read_text() == "n,path,label,note\n1,sub/c.png,,by the river\n2,a.png,,\n,b.png,ash,\n"


def test_every_name_survives_the_table_and_is_read_in_training(begun, table, photos, tmp_path):
    page = Page(begun())
    listed = [place for place, name in enumerate(NAMES) if not name.startswith(".")]  # hidden files take no part
    for place in listed:
        page.label("even" if place % 2 == 0 else "odd", place)
    page.label(NONE_LABEL, A)
    opened = open_folder(photos, labels_csv=table, class_names=None, keep_none=False, cache_dir=tmp_path / "cache")
    found = dict(zip(opened.listing.names, opened.listing.labels.tolist(), strict=True))
    assert found == {NAMES[place]: place % 2 for place in listed if place != A}


def test_two_servers_for_one_table_are_refused(begun, photos, table):
    begun()
    with pytest.raises(JournalError, match="has these labels; use its page"):
        Labels(table, photos, NAMES, who="bob", classes=())


def test_mistakes_in_the_table_are_told_before_anything(begun, photos, table):
    begun()
    table.write_text("path,label\nnot there.png,oak\n")
    with pytest.raises(DatasetError, match=r"must be mended first(.|\n)*'not there.png'"):
        begun()
    table.write_text("path,label\n")
    begun()
    beside(table).write_text("no journal\n")
    with pytest.raises(JournalError, match="line 1 is damaged"):
        begun()
    beside(table).unlink()
    begun()


def test_doubtful_names_are_told(begun):
    page = Page(begun(classes=("oak", "ash")))
    assert "differs from 'oak' in upper and lower case alone" in page.label("Oak", A).words
    assert "there is a class 'oak' already" in page.ask(do="add", name="oak").words


@pytest.mark.parametrize("name", ["", "  ", NONE_LABEL, "NaN", "#N/A", "a\u202eb", "x" * 201])
def test_names_that_training_would_refuse_are_refused(begun, name):
    page = Page(begun())
    assert not page.ask(do="add", name=name).done
    if name:
        assert page.label(name, A).done == (name == NONE_LABEL)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {"do": "erase"},
        {"do": "label", "id": "../../x", "images": [], "seen": []},
        {"do": "label", "id": "12345678", "images": [-1], "seen": [""]},
        {"do": "label", "id": "12345678", "images": [10**9], "seen": [""]},
        {"do": "label", "id": "12345678", "images": [True], "seen": [""]},
        {"do": "label", "id": "12345678", "images": [0, 0], "seen": ["", ""]},
        {"do": "label", "id": "12345678", "images": [0], "seen": []},
        {"do": "label", "id": "12345678", "images": ["a.png"], "seen": [""]},
        {"do": "label", "id": "12345678", "images": [0], "seen": [""], "label": 3},
        {"do": "add", "id": "12345678", "name": ["oak"]},
    ],
)
def test_what_is_no_action_is_refused(raw):
    with pytest.raises(Refused):
        asking.read(raw, num_images=3)
