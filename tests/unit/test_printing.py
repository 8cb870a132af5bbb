"""What is printed never ends the work (`hosts/printing.py`)."""

import os
import subprocess
import sys

import pytest

BEGIN = "from semivit_jax.hosts import printing; printing.outlast(); import os, sys; "
READ_NOTHING = "print('x' * 100_000); print('y'); sys.stdout.flush(); print('done', file=sys.stderr)"


def python(program, *, stdout=subprocess.PIPE, **options):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


def test_a_reader_that_has_gone_is_told_once_and_nothing_ends():
    received, sent = os.pipe()
    os.close(received)
    done = python(READ_NOTHING, stdout=sent)
    os.close(sent)
    told = "semivit: nothing more is printed to stdout (Broken pipe); going on\ndone\n"
    assert (done.returncode, done.stderr) == (0, told)


def test_a_full_disk_below_the_log_ends_nothing():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = python(READ_NOTHING, stdout=full)
    assert done.returncode == 0
    assert done.stderr.endswith("(No space left on device); going on\ndone\n")


def test_streams_that_were_closed_before_the_start_get_no_file():
    """The next file to be opened would have their number, and be written into."""
    program = "f = open(sys.argv[1], 'w'); f.write('kept'); f.close(); print('lost'); print('lost', file=sys.stderr)"
    shell = f'exec "{sys.executable}" -c "$0" "$1" >&- 2>&-'
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"printing_{os.getpid()}")
    done = subprocess.run(["sh", "-c", shell, BEGIN + program, path], check=False)
    with open(path) as file:
        assert (done.returncode, file.read()) == (0, "kept")
    os.remove(path)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1:strict", "ascii:strict"])
def test_every_name_can_be_printed(encoding):
    program = "print('caf\\udce9, \\u732b'); print('caf\\udce9', file=sys.stderr)"
    done = python(program, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    assert "caf\\udce9" in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["train", "--config=digits", "--help"], ["nothing"]])
def test_help_may_be_cut_off(command):
    received, sent = os.pipe()
    os.close(received)
    argv = [sys.executable, "-m", "semivit_jax.main", *command]
    done = subprocess.run(argv, stdout=sent, stderr=subprocess.PIPE, text=True, check=False)
    os.close(sent)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if command == ["nothing"] else 0)
