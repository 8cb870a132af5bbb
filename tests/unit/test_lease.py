"""A workdir is held by one run at a time, and by none that is gone."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from semivit_jax import files
from semivit_jax.config import ConfigError
from semivit_jax.hosts import identity
from semivit_jax.training import lease

HERE = identity.this_process()
ELSEWHERE = dataclasses.replace(HERE, host="node-7", machine="another", boot="another", pid=1)


@pytest.fixture
def folder(tmp_path):
    return files.path(tmp_path / "run")


@pytest.fixture
def fast(monkeypatch):
    """The same waits, two hundred times shorter."""
    for name in ("BEAT_SECONDS", "WAIT_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 200)


def put(folder, process, beat=0):
    folder.mkdir(parents=True, exist_ok=True)
    lease._replace(folder, lease.Lease(process, "theirs", "yesterday", beat), files.NOTHING)


def holder(folder):
    return lease._read(folder)[0].process


def dead_child():
    """A process of this machine that has just ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = dataclasses.replace(HERE, pid=child.pid, started=identity._started(child.pid))
    assert not identity.is_gone(found, HERE)
    child.communicate()
    return found


def test_it_is_there_while_the_run_is_and_goes_with_an_empty_folder(folder):
    with lease.held(folder):
        assert holder(folder) == HERE
    assert not folder.exists()


@pytest.mark.parametrize("made_before", [False, True])
def test_a_folder_that_holds_something_or_was_there_stays(folder, made_before):
    if made_before:
        folder.mkdir()
    with lease.held(folder):
        if not made_before:
            (folder / "kept").touch()
    assert files.matching(folder, "*") == [folder / "kept"] * (not made_before)
    assert not (folder / lease.LEASE).exists()


def test_a_run_that_is_alive_is_not_disturbed(folder):
    with lease.held(folder):
        before = (folder / lease.LEASE).read_bytes()
        with pytest.raises(
            ConfigError, match=rf"run is in use by process {os.getpid()} on {HERE.host}, since .* --wor"
        ):
            lease.held(folder).__enter__()
        assert (folder / lease.LEASE).read_bytes() == before


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(dead_child, id="ended"),
        pytest.param(lambda: dataclasses.replace(HERE, started="1"), id="its number belongs to another process now"),
        pytest.param(lambda: dataclasses.replace(HERE, boot="earlier", pid=1), id="before the machine started anew"),
    ],
)
def test_a_dead_process_of_this_machine_is_replaced_at_once(folder, gone, monkeypatch):
    here = dataclasses.replace(HERE, machine="this one")  # a container may have no identity of its own
    monkeypatch.setattr(identity, "this_process", lambda: here)
    put(folder, dataclasses.replace(gone(), machine="this one"))
    began = time.monotonic()
    with lease.held(folder):
        assert holder(folder).pid == os.getpid()
    assert time.monotonic() - began < lease._LOOK_SECONDS


OTHERS = ({"namespace": "another container"}, {"boot": "b", "machine": ""}, {"boot": "b", "host": "b"}, {"boot": ""})


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_what_may_be_another_machine_is_never_judged_by_its_number(change):
    other = dataclasses.replace(HERE, started="1", **change)
    assert not identity.is_gone(other, HERE)
    assert not identity.is_neighbour(other, HERE)


def test_a_silent_holder_elsewhere_is_waited_for_and_replaced(folder, fast, capsys):
    put(folder, ELSEWHERE)
    began = time.monotonic()
    with lease.held(folder):
        assert holder(folder) == HERE
    assert time.monotonic() - began >= lease.WAIT_SECONDS
    said = capsys.readouterr().out
    assert "is held by process 1 on node-7, since yesterday; waiting up to" in said
    assert "warning: process 1 on node-7 has been silent for" in said


def test_a_holder_elsewhere_that_beats_is_left_alone(folder, fast, monkeypatch):
    """One beat will do, at whatever time of the wait."""
    put(folder, ELSEWHERE)
    look, looks = lease._try, []

    def beat_and_look(*args):
        looks.append(args)
        if len(looks) == 2:  # the first look began the wait
            put(folder, ELSEWHERE, beat=1)
        return look(*args)

    monkeypatch.setattr(lease, "_try", beat_and_look)
    with pytest.raises(ConfigError, match="in use by process 1 on node-7, since yesterday: one run at a time"):
        lease.held(folder).__enter__()
    assert holder(folder) == ELSEWHERE
    assert len(looks) > 2


def test_a_holder_elsewhere_that_ends_in_time_is_followed(folder, fast):
    put(folder, ELSEWHERE)
    threading.Timer(lease.WAIT_SECONDS / 4, lambda: (folder / lease.LEASE).unlink()).start()
    began = time.monotonic()
    with lease.held(folder):
        assert holder(folder) == HERE
    assert time.monotonic() - began < lease.WAIT_SECONDS


@pytest.mark.parametrize("content", ["", "{}", '{"process": {"pid": 1}}'])
def test_a_lease_that_cannot_be_read_is_named(folder, content):
    folder.mkdir()
    (folder / lease.LEASE).write_text(content)
    with pytest.raises(ConfigError, match=r"run/\.lease\.json cannot be read .*; remove it if no run uses"):
        lease.held(folder).__enter__()


def test_it_beats(folder, fast):
    with lease.held(folder):
        beats = set()
        while len(beats) < 3:
            beats.add(lease._read(folder)[0].beat)


def test_of_many_that_start_at_once_one_wins(folder):
    """A dead holder is what all of them find, so that each may think that it is the one to replace it."""
    put(folder, dataclasses.replace(HERE, started="1"))
    together = threading.Barrier(8)

    def start(number):
        together.wait()
        return lease._try(folder, lease.Lease(HERE, f"start {number}", "now"))

    with ThreadPoolExecutor(8) as starters:
        found = list(starters.map(start, range(8)))
    assert sum(one is None for one in found) == 1


LOSES = """
import dataclasses, sys, time
from semivit_jax import files
from semivit_jax.training import lease
lease.BEAT_SECONDS = 0.05
folder = files.path(sys.argv[1])
with lease.held(folder):
    lease._replace(folder, dataclasses.replace(lease._read(folder)[0], token="theirs"), files.NOTHING)
    time.sleep(30)
    print("went on")
"""


def test_a_holder_that_was_replaced_leaves_at_once_and_writes_nothing(folder):
    done = subprocess.run([sys.executable, "-c", LOSES, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was taken over by process" in done.stderr
    assert "went on" not in done.stdout
    assert json.loads((folder / lease.LEASE).read_bytes())["token"] == "theirs"
