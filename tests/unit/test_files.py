"""Files on a disk: whole or not there, named where they fail, and never half removed under their own name."""

import json
import os
import pathlib
import pwd
import shutil
import zlib

import pytest

from semivit_jax import files
from semivit_jax.files import contents


def test_a_home_is_expanded_and_an_address_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(files.path("~/runs")) == "/home/somebody/runs"
    with pytest.raises(
        OSError, match=r"^az2://x/run is no folder; legal is a folder on a mounted file system, or gs://"
    ):
        files.path("az2://x/run")


def test_a_place_without_links_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert files.absolute(files.path("link/run")) == tmp_path / "real" / "run"


# ---- whole files


class Killed(BaseException):
    pass


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, {"step": 1})
    flushed = []

    def killed(temporary, target):
        assert json.loads(pathlib.Path(temporary).read_text()) == {"step": 2}
        assert os.stat(temporary).st_ino in flushed  # what is renamed is on the disk
        raise Killed

    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        files.write_json(path, {"step": 2})
    assert files.read_json(path) == {"step": 1}


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    with files.writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "value"
    path.write_text("old")
    with pytest.raises(error), files.writing(path) as file:  # noqa: PT012 - what is written before counts
        file.write(b"half of the ne")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value"]


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, {"step": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"step": {1, 2}})
    assert files.read_json(path) == {"step": 1}


def test_a_full_disk_is_told_with_the_files_name(tmp_path):
    path = tmp_path / "value"
    full = pytest.raises(OSError, match=r"No space left on device: '.*/value'")
    with full, files.writing(path) as file:
        fill(file)
        file.write(b"1")
    assert os.listdir(tmp_path) == []


def fill(file):
    """From here on the disk of this file is full."""
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), file.fileno())


# ---- lines


def lines_of(path, keep=lambda old: old):
    return files.Lines(files.path(path), keep)


def test_lines_go_on_where_a_kill_cut_one_off(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr\xff")
    lines = lines_of(path, lambda old: [line for line in old if line in ("one", "two")])
    lines.add("three")
    assert path.read_text() == "one\ntwo\nthree\n"  # before it is closed
    lines.close()


def test_every_line_reaches_the_file_at_once(tmp_path):
    lines = lines_of(tmp_path / "log")
    for text in ("one", "two"):
        lines.add(text)
        assert (tmp_path / "log").read_text().endswith(f"{text}\n")
    lines.close()


def test_a_flush_reaches_the_disk(tmp_path, monkeypatch):
    lines, flushed = lines_of(tmp_path / "log"), []
    lines.add("one")
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    lines.flush()
    assert flushed == [(tmp_path / "log").stat().st_ino]
    lines.close()


def test_a_line_that_does_not_fit_is_told_with_the_files_name(tmp_path):
    lines = lines_of(tmp_path / "log")
    fill(lines._file)
    with pytest.raises(OSError, match=r"No space left on device: '.*/log'"):
        lines.add("one")
    lines.close()  # has nothing more to write


# ---- what is there


def test_size_and_checksum_are_those_of_the_bytes(tmp_path, monkeypatch):
    def nameless(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nameless)  # as in many a container
    monkeypatch.setattr(contents, "_CHUNK", 100)
    content = bytes(range(256)) * 3
    (tmp_path / "array").write_bytes(content)
    found = files.inventory(files.path(tmp_path))["array"]
    assert found.size == len(content)
    assert files.checksum(found) == zlib.crc32(content)
    assert files.matches(found, zlib.crc32(content))
    assert not files.matches(found, zlib.crc32(content) ^ 1)


def test_every_file_below_a_folder_whatever_its_name(tmp_path):
    folder = tmp_path / "lr[0.1]*"
    for name in ("b/.hidden", "b/old~", "a", "b-c/d"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "link").symlink_to(tmp_path)
    assert [str(name) for name in files.below(files.path(folder))] == ["a", "b/.hidden", "b/old~", "b-c/d"]


def test_names_are_matched_and_not_the_folder(tmp_path):
    folder = files.path(tmp_path / "lr[0.1]")
    assert files.matching(folder, "*") == []
    for name in ("10.removed", "9.tmp", "10", "x.1"):
        (folder / name).mkdir(parents=True)
    assert [place.name for place in files.matching(folder, "[0-9]*.*")] == ["10.removed", "9.tmp"]


def test_orbax_says_what_is_committed(tmp_path):
    assert not files.committed(files.path(tmp_path))
    (tmp_path / "commit_success.txt").touch()
    assert files.committed(files.path(tmp_path))


def test_a_half_discarded_folder_looks_whole_nowhere(tmp_path, monkeypatch):
    folder = tmp_path / "300"
    folder.mkdir()
    (folder / "MANIFEST.json").touch()
    (folder / "array").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda folder: None)  # as far as a kill lets it come
    files.discard(files.path(folder), "MANIFEST.json")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["300.removed", "300.removed/array"]
    monkeypatch.undo()
    files.remove(files.path(tmp_path / "300.removed"))
    assert os.listdir(tmp_path) == []


def test_what_is_set_aside_keeps_its_content(tmp_path):
    (tmp_path / "300").mkdir()
    (tmp_path / "300" / "array").write_text("numbers")
    files.set_aside(files.path(tmp_path / "300"), files.path(tmp_path / "aside"))
    assert (tmp_path / "aside" / "array").read_text() == "numbers"
    assert not (tmp_path / "300").exists()


# ---- whole folders, and places that are tried


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_whole_or_not_at_all(there, tmp_path):
    target = tmp_path / "out"
    if there:
        target.mkdir()

    def fail_half_way():
        with files.appearing(target) as growing:
            growing.mkdir(exist_ok=True)
            (growing / "half").touch()
            (growing / "deep").mkdir()
            assert there or not target.exists()
            raise Killed

    with pytest.raises(Killed):
        fail_half_way()
    assert list(tmp_path.iterdir()) == [target] * there
    assert not there or not list(target.iterdir())
    with files.appearing(target) as growing:
        growing.mkdir(exist_ok=True)
        (growing / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_to_an_empty_folder_stays_one(tmp_path):
    """As a mount does: no folder can be put in its place."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with files.appearing(tmp_path / "out") as growing:
        (growing / "whole").touch()
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / "whole").exists()


def test_a_place_is_tried_without_leaving_anything(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert files.why_not_writable(tmp_path / "new" / "x") == ""
    assert files.why_not_writable(tmp_path / "file") == ""
    assert files.why_not_writable(tmp_path / "file" / "x") == f"{tmp_path / 'file'} is no folder"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert files.why_not_writable(tmp_path / "new" / "x") == f"{tmp_path} cannot be written to"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
