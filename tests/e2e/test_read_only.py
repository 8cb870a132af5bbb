"""Folders that cannot be written to, from the start or all of a sudden: it says which, and loses nothing."""

import os
import shutil
import socket
import subprocess

import pytest

from tests.e2e.planned import PLANNED, TOTAL, good_steps, seen_positions

pytestmark = pytest.mark.xdist_group("read only")

# The superuser writes where permissions forbid it, until this right is taken away.
ORDINARY_USER = ("setpriv", "--bounding-set=-dac_override", "--") if os.geteuid() == 0 else ()
IN_NAMESPACE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
READ_ONLY = ("mount", "-o", "remount,bind,ro")


def works(*command):
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def mounted(folder, *options):
    """Runs a command that sees `folder` as a mount of its own."""
    shell = f'mount --bind "$0" "$0" && {"mount -o " + ",".join(options) + " $0 &&" if options else ""} exec "$@"'
    return (*IN_NAMESPACE, "sh", "-c", shell, str(folder))


@pytest.fixture(params=["permission", pytest.param("mount", marks=pytest.mark.slow)])
def way(request, tmp_path):
    """How writing is forbidden."""
    if request.param == "permission" and ORDINARY_USER and not works(*ORDINARY_USER, "true"):
        pytest.skip("runs as root, who may write anywhere, and setpriv cannot change that here")
    if request.param == "mount" and not works(*mounted(tmp_path, "remount", "bind", "ro"), "true"):
        pytest.skip("this machine lets nobody make mounts")
    return request.param


def forbid(way, folder):
    """Makes a folder read-only; returns the command within which it is."""
    if way == "mount":
        return mounted(folder, "remount", "bind", "ro")
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o555)
    return ORDINARY_USER


def allow(folder):
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


OPTIONS = {"quick": PLANNED, "changes": {"stages": ("semi",)}}
CALM = {"trouble": {}}


def fails(machine, workdir, within, altered=CALM):
    """What a run says that must end with 1."""
    started = machine.start(workdir, **OPTIONS, altered=altered, within=within)
    assert started.wait(timeout=120.0) == [1], started.output()
    return started.processes[0].text()


@pytest.fixture(scope="module")
def halfway(machine, tmp_path_factory):
    """A run whose process ended at once behind the checkpoint of step 8."""
    workdir = tmp_path_factory.mktemp("runs") / "halfway"
    started = machine.start(workdir, **OPTIONS, altered=CALM | {"lose_writing": [8, ["false"]]})
    assert started.wait() == [1]
    return workdir


@pytest.fixture
def stopped(halfway, tmp_path):
    workdir = shutil.copytree(halfway, tmp_path / "run")
    yield workdir
    allow(workdir)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_new_run_says_where_it_cannot_write_on_every_host(machine, way, tmp_path, processes):
    workdir = tmp_path / "run"
    workdir.mkdir()
    started = machine.start(workdir, processes=processes, **OPTIONS, altered=CALM, within=forbid(way, workdir))
    assert started.wait(timeout=120.0) == [1] * processes, started.output()
    for process in started.processes:
        assert f"the workdir {workdir} cannot be written to" in process.text()
        assert "Traceback" not in process.text()


def test_a_run_does_not_go_on_where_it_cannot_write(machine, way, stopped):
    said = fails(machine, stopped, forbid(way, stopped))
    assert f"the workdir {stopped} cannot be written to" in said
    assert "Traceback" not in said
    assert good_steps(stopped / "semi") == [4, 8]


@pytest.mark.slow
def test_checkpoints_alone_may_be_read_only(machine, way, stopped):
    checkpoints = stopped / "semi" / "checkpoints"
    said = fails(machine, stopped, forbid(way, checkpoints))
    assert f"{checkpoints} cannot be written to" in said
    assert "Traceback" not in said
    assert good_steps(stopped / "semi") == [4, 8]


def test_a_folder_that_becomes_read_only_costs_no_checkpoint(machine, way, tmp_path, go_on_here):
    workdir = tmp_path / "run"
    checkpoints = workdir / "semi" / "checkpoints"
    checkpoints.mkdir(parents=True)
    within, command = (ORDINARY_USER, ["chmod", "555"]) if way == "permission" else (mounted(checkpoints), READ_ONLY)
    said = fails(machine, workdir, within, CALM | {"lose_writing": [8, command], "goodbye": 1.0})
    assert f"saving to {checkpoints} failed" in said
    assert "the last good checkpoint is step 8" in said
    assert "Traceback" not in said
    assert good_steps(workdir / "semi") == [4, 8]
    allow(workdir)
    assert "semi: continues from step 8" in go_on_here(workdir)
    assert seen_positions(workdir / "semi") == list(range(TOTAL))


@pytest.mark.slow  # by default: a disk that is full for one of two processes (test_storage)
def test_one_process_that_cannot_write_is_named_by_all(machine, way, tmp_path):
    """The first process writes everywhere; the other may only look at the folder of the checkpoints."""
    checkpoints = tmp_path / "run" / "semi" / "checkpoints"
    checkpoints.mkdir(parents=True)
    if way == "permission" and not ORDINARY_USER:
        pytest.skip("both processes have the same rights")
    altered = CALM | {"goodbye": 1.0}
    started = machine.start(
        tmp_path / "run", processes=2, **OPTIONS, altered=altered, last_within=forbid(way, checkpoints)
    )
    assert started.wait(timeout=120.0) == [1, 1], started.output()
    for process in started.processes:
        assert f"process 1 (host {socket.gethostname()}): {checkpoints} cannot be written to" in process.text()
        assert "Traceback" not in process.text()


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True], ids=["empty", "older copy"])
def test_a_folder_of_its_own_is_no_workdir(machine, stopped, copied):
    """The last process sees a file system of its own where the workdir is, maybe with a copy of the run in it."""
    copy = 'mkdir "$0/kept" && cp -r "$0/run" "$0/kept"' if copied else 'mkdir "$0/kept"'
    own = f'{copy} && mount --bind "$0/kept" "$0" && exec "$@"'
    within = (*IN_NAMESPACE, "sh", "-c", own, str(stopped.parent))
    if not works(*mounted(stopped), "true"):
        pytest.skip("this machine lets nobody make mounts")
    altered = CALM | {"shared_within": 3.0, "goodbye": 1.0}
    started = machine.start(stopped, processes=2, **OPTIONS, altered=altered, last_within=within)
    assert started.wait(timeout=120.0) == [1, 1], started.output()
    for process in started.processes:
        found = f"process 1 (host {socket.gethostname()}): the workdir {stopped} is not one folder for all hosts"
        assert found in process.text()
    assert not (stopped / ".shared.json").exists()
