"""When a folder is checked anew, and that a cache folder which cannot be used costs time alone."""

import logging
import os

import numpy as np
import pytest

from semivit_jax.data.sources import folder_scan
from tests.own_folder.photos import csv_of, labels_of, put


@pytest.fixture
def opened(monkeypatch):
    """The files whose first bytes were read, by name."""
    names, complaint = [], folder_scan._complaint
    monkeypatch.setattr(folder_scan, "_complaint", lambda root, name: names.append(name) or complaint(root, name))
    return names


def same_times(root):
    """As archives, DVC and many downloads give them."""
    for folder, _, names in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.utime(path, (1577836800, 1577836800))


def test_listing_is_said_when_it_is_done_and_not_when_it_is_kept(listed, root, caplog):
    for told in ([f"listing the images in {root} (kept for the next start)"], []):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            listed()
        assert [r.getMessage() for r in caplog.records if "listing" in r.getMessage()] == told


def test_files_are_opened_once(listed, opened):
    first = listed()
    assert len(opened) == 13
    assert listed().listing.content_hash() == first.listing.content_hash()
    assert len(opened) == 13


def test_the_next_version_of_a_folder_with_the_same_times(listed, root):
    same_times(root)
    listed()
    put(root / "ant" / "new.png")
    (root / "bee" / "0.png").rename(root / "cat" / "was a bee.png")
    same_times(root)
    found = labels_of(listed())
    assert found["ant/new.png"] == "ant"
    assert found["cat/was a bee.png"] == "cat"
    assert "bee/0.png" not in found


@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_a_file_that_changed_in_its_place_is_checked_again(listed, root, change):
    """Its folder keeps its modification time, or gets it back."""
    put(root / "ant" / "changed.png")
    same_times(root)
    assert "ant/changed.png" in labels_of(listed())
    path, size = root / "ant" / "changed.png", (root / "ant" / "changed.png").stat().st_size
    path.write_bytes(b"no image".ljust(size + (change == "size")))
    if change == "name":
        path.rename(root / "ant" / "called otherwise.png")
    same_times(root)
    if change == "time":
        os.utime(path, (1577836801, 1577836801))
    assert not [name for name in labels_of(listed()) if name.startswith(("ant/changed", "ant/called"))]


def test_what_was_left_out_is_looked_at_again_at_every_start(listed, root, tmp_path, opened):
    (root / "ant" / "new.png").touch()
    (root / "ant" / "text.png").write_text("hello")
    before = (root / "ant" / "new.png").stat().st_mtime_ns
    assert "ant/new.png" not in labels_of(listed())
    opened.clear()
    listed()
    assert opened == ["ant/new.png", "ant/text.png"]
    (root / "ant" / "new.png").write_bytes((root / "ant" / "0.png").read_bytes())
    os.utime(root / "ant" / "new.png", ns=(before, before))
    assert labels_of(listed(csv_of(tmp_path, "ant/new.png,a", "bee/0.png,b")))["ant/new.png"] == "a"


def kept_in(tmp_path):
    (kept,) = (tmp_path / "cache").glob("checked_*.npz")
    return kept


def test_a_scan_kept_by_an_earlier_version_is_made_again(listed, tmp_path, opened, caplog):
    before = listed().listing.content_hash()
    with np.load(kept_in(tmp_path)) as saved:
        np.savez(kept_in(tmp_path), doubtful=saved["doubtful"], fingerprint=np.array("2 of another kind"))
    opened.clear()
    caplog.clear()
    assert listed().listing.content_hash() == before
    assert len(opened) == 13
    assert not [r for r in caplog.records if "cache" in r.getMessage()]


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 20] ^= 1
    path.write_bytes(content)


def with_places(*places, dtype=np.int64):
    def write(path):
        with np.load(path) as saved:
            fingerprint = saved["fingerprint"]
        np.savez(path, doubtful=np.array(places, dtype), fingerprint=fingerprint)

    return write


def one_array(array):
    def write(path):
        with path.open("wb") as file:
            np.save(file, array)

    return write


DAMAGE = {
    "cut off": cut_off,
    "one bit": flipped,
    "empty": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_bytes(b"hello"),
    "of another program": lambda path: np.savez(path, a=np.zeros(3)),
    "one array": one_array(np.zeros(3)),
    "a pickle": one_array(np.array([{}], object)),
    "numbers of another kind": with_places(0.5, dtype=np.float64),
    "places that are none": with_places(0, 13),
    "a folder": lambda path: path.unlink() or path.mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_named_and_made_again(listed, tmp_path, caplog, damage):
    before = listed().listing.content_hash()
    path = kept_in(tmp_path)
    damage(path)
    caplog.clear()
    assert listed().listing.content_hash() == before
    told = [r.getMessage() for r in caplog.records if str(path) in r.getMessage()]
    assert told[0].startswith(f"{path} is damaged or cannot be read (")
    assert all("\n" not in line for line in told)
    if path.is_file():
        caplog.clear()
        listed()
        assert not [r for r in caplog.records if str(path) in r.getMessage()]


def test_a_cache_folder_that_is_a_file(listed, tmp_path, caplog):
    (tmp_path / "cache").write_text("no folder")
    assert len(listed().listing.names) == 13
    (told,) = [r.getMessage() for r in caplog.records if "cannot be written" in r.getMessage()]
    assert "cannot be written (File exists), so the next start does the same work again; make room there, or" in told


def test_a_full_disk(listed, tmp_path, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(listed().listing.names) == 13
    (told,) = [r.getMessage() for r in caplog.records if "cannot be written" in r.getMessage()]
    assert "cannot be written (No space left on device)" in told
    assert list((tmp_path / "cache").iterdir()) == []
