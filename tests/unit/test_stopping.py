"""Signals that come when there is nothing to save: before training listens to them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from semivit_jax.cli import train
from semivit_jax.hosts import stopping
from semivit_jax.hosts.stopping import leaving_at_once, listening
from semivit_jax.training import run

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config


@pytest.mark.usefixtures("signals_heard")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_while_data_are_opened_ends_the_command_as_training_would(signum, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "open_task", lambda *_, **__: os.kill(os.getpid(), signum))
    assert train.train(["--config=digits", f"--workdir={tmp_path / 'run'}"]) == code
    said = capsys.readouterr().out
    assert "nothing to save; start the same command again" in said
    assert not (tmp_path / "run" / "config.json").exists()  # another config may have the folder


@pytest.mark.usefixtures("signals_heard")
def test_a_terminal_that_closes_is_heard_unless_nohup_says_otherwise():
    with listening() as request:
        os.kill(os.getpid(), signal.SIGHUP)
    assert request.exit_code == 75
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_training_listens_inside_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with leaving_at_once():
        with listening() as request:
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before


SECONDS = 40.0  # for an answer, on a busy machine
WAITING = """
import ctypes, time
from semivit_jax.hosts import stopping
stopping.LEAVING_SECONDS = 0.5
with stopping.listening() as request:
    print("listening", flush=True)
    {wait}
"""
IN_PYTHON = "time.sleep(60)"
# As a compiler does, goes on after a signal and runs no Python: a lock that is already held.
IN_A_COMPILER = "lock = ctypes.create_string_buffer(64); c = ctypes.CDLL(None)\n    " + (
    "c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)"
)


@pytest.mark.parametrize("wait", [IN_PYTHON, IN_A_COMPILER])
def test_ctrl_c_is_answered_at_once_and_the_second_one_leaves_without_a_traceback(wait):
    with process(["-c", WAITING.format(wait=wait)]) as started:
        assert started.stdout.readline() == "listening\n"
        started.send_signal(signal.SIGINT)
        assert "Ctrl-C again leaves" in started.stderr.readline()
        started.send_signal(signal.SIGINT)
        assert started.wait() == 130
        assert started.stderr.read() == f"semivit: {stopping.SAID_AGAIN}\n"


def test_sigterm_is_answered_once(tmp_path):
    """The process listens until it is told to go on: how long the first answer takes is the machine's affair."""
    go_on = tmp_path / "go_on"
    wait = f"while not __import__('os').path.exists({str(go_on)!r}): time.sleep(0.05)"
    program = WAITING.format(wait=f"{wait}\n    assert request.exit_code == 75")
    with process(["-c", program]) as started:
        assert started.stdout.readline() == "listening\n"
        started.send_signal(signal.SIGTERM)
        assert "SIGTERM" in started.stderr.readline()
        started.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # for an answer that must not come
        go_on.touch()
        assert started.wait() == 0
        assert started.stderr.read() == ""


# A command that writes a file and a folder, and never comes to their end.
COMMAND = """
import ctypes, sys, time
from semivit_jax import files, main
from semivit_jax.hosts import stopping
sys.path.insert(0, {folder!r})
stopping.LEAVING_SECONDS = {seconds}
def go(argv):
    with files.writing({folder!r} + "/out/list.csv") as file, files.appearing({folder!r} + "/out/deploy") as deploy:
        file.write(b"half")
        deploy.mkdir()
        (deploy / "model.onnx").write_bytes(b"half")
        print("waiting", flush=True)
        {wait}
sys.modules["slow_command"] = main
main.go = go
main.COMMANDS["eval"] = ("slow_command:go", "")
sys.argv = ["semivit", "eval"]
main.run()
"""
IN_A_CALLBACK = "type('Lost', (), {'__del__': lambda self: time.sleep(60)})(); time.sleep(60)"
IN_AN_IMPORT = "import slow_import"
AT_ONCE, LATER = 0.5, 600.0  # seconds until a command is ended that does not end by itself


@pytest.mark.parametrize(
    ("wait", "seconds", "times"),
    [
        pytest.param(IN_PYTHON, LATER, 1, id="python"),
        pytest.param(IN_A_CALLBACK, AT_ONCE, 1, id="callback"),
        pytest.param(IN_AN_IMPORT, LATER, 1, id="import"),
        pytest.param(IN_A_COMPILER, AT_ONCE, 1, id="compiler"),
        pytest.param(IN_A_COMPILER, LATER, 2, id="compiler-twice"),
    ],
)
def test_ctrl_c_in_a_command_is_one_line_and_leaves_nothing_half_written(wait, seconds, times, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "slow_import.py").write_text("import time; time.sleep(60)")
    program = COMMAND.format(folder=str(tmp_path), seconds=seconds, wait=wait.replace("\n    ", "\n        "))
    with process(["-c", program]) as started:
        assert started.stdout.readline() == "waiting\n"
        assert len(list((tmp_path / "out").iterdir())) == 2
        started.send_signal(signal.SIGINT)
        assert started.stderr.readline() == "semivit: stopping eval\n"
        if times == 2:
            started.send_signal(signal.SIGINT)
        assert started.wait() == 130
        assert started.stderr.read() == ""
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("hears", ["stopping.answering('eval')", "stopping.leaving_at_once()"])
def test_a_second_ctrl_c_does_not_break_off_what_removes_half_written_files(hears, tmp_path):
    program = f"""
import shutil, time
from semivit_jax import files
from semivit_jax.hosts import stopping
remove = shutil.rmtree
def remove_slowly(*args, **kwargs):
    print("removing", flush=True)
    time.sleep(0.5)
    remove(*args, **kwargs)
shutil.rmtree = remove_slowly
try:
    with {hears}, files.appearing({str(tmp_path)!r} + "/out/deploy") as deploy:
        deploy.mkdir()
        print("waiting", flush=True)
        time.sleep(60)
except BaseException:
    stopping.end(stopping.INTERRUPTED)
"""
    (tmp_path / "out").mkdir()
    with process(["-c", program]) as started:
        for said in ("waiting\n", "removing\n"):
            assert started.stdout.readline() == said
            started.send_signal(signal.SIGINT)
        assert started.wait() == 130
        assert "Traceback" not in started.stderr.read()
    assert list((tmp_path / "out").iterdir()) == []


def test_ctrl_c_while_a_command_is_imported_is_one_line(tmp_path):
    """An exception could become another one there, in the midst of an extension module."""
    lines = "import time", "try:", "    print('waiting', flush=True)", "    time.sleep(60)", "except BaseException:"
    (tmp_path / "slow_command.py").write_text("\n".join([*lines, "    raise ImportError"]))
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['semivit', 'eval']\n"
        "from semivit_jax import main\n"
        "main.COMMANDS['eval'] = ('slow_command:go', '')\n"
        "main.run()"
    )
    with process(["-c", program]) as started:
        assert started.stdout.readline() == "waiting\n"
        started.send_signal(signal.SIGINT)
        assert started.wait() == 130
        assert started.stderr.read() == "semivit: stopping eval\n"


def test_ctrl_c_at_the_very_end_changes_nothing():
    """Python has given up its handlers when it clears its modules."""
    program = (
        "import os, signal, sys\n"
        "from semivit_jax import main\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGINT):\n"
        "        kill(pid, signum)\n"
        "sys.last = Last()\n"
        "sys.argv = ['semivit', '--help']\n"
        "main.run()"
    )
    with process(["-c", program]) as started:
        assert started.stdout.read().startswith("usage")
        assert started.wait() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_what_comes_to_all_processes_of_a_terminal_ends_no_worker(signum):
    """Training needs its workers until it has saved."""
    with stopping.left_to_parent():
        worker = subprocess.Popen(["sleep", "60"])
    worker.send_signal(signum)
    worker.terminate()  # which comes second
    assert worker.wait() == -signal.SIGTERM
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@contextlib.contextmanager
def process(arguments):
    """A process of Python, killed if it hangs: then what is read of it is empty."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True) as started:
        killer = threading.Timer(SECONDS, started.kill)
        killer.start()
        try:
            yield started
        finally:
            killer.cancel()
            started.kill()
