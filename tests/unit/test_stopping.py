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


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_while_data_are_opened_ends_the_command_as_training_would(signum, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "open_task", lambda *_, **__: os.kill(os.getpid(), signum))
    assert train.train(["--config=digits", f"--workdir={tmp_path / 'run'}"]) == code
    said = capsys.readouterr().out
    assert "nothing to save; start the same command again" in said
    assert not (tmp_path / "run" / "config.json").exists()  # another config may have the folder


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


@pytest.mark.parametrize("moment", ["import", "call"])
def test_ctrl_c_outside_of_training_is_one_line(moment, tmp_path):
    """A module that stands for a command: it waits while it is imported, or when it is called."""
    wait = "print('waiting', flush=True); import time; time.sleep(60)"
    body = f"{wait}\ndef go(argv): pass" if moment == "import" else f"def go(argv): {wait}"
    (tmp_path / "slow_command.py").write_text(body)
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
        said = started.stderr.read()
    assert said.startswith("semivit: stopping eval")
    assert said.count("\n") == 1


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
