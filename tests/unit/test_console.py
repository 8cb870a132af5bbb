"""What people read comes from one host."""

import io
import logging
import os
import subprocess
import sys

import jax
import pytest
from rich.table import Table

from semivit_jax import console


@pytest.mark.parametrize(("host", "said"), [(0, "one line\n"), (1, "")])
def test_the_first_host_speaks_for_all(host, said, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: host)
    console.say("one line")
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", r"caf\udce9 日本"), ("latin-1", r"caf\udce9 \u65e5\u672c")])
def test_what_an_encoding_lacks_is_escaped(encoding, shown, monkeypatch):
    """Lines, log messages and tables alike, on an output that is strict, as that of a terminal is."""
    monkeypatch.setattr("sys.stdout", out := io.TextIOWrapper(io.BytesIO(), encoding))
    name = os.fsdecode(b"caf\xe9") + " 日本"
    console.say(name)
    console._Lines().emit(logging.LogRecord("semivit_jax", logging.WARNING, "", 0, "%s", (name,), None))
    table = Table("class")
    table.add_row(name)
    console.console.print(table)
    out.seek(0)
    assert out.read().count(shown) == 3


LEAVING = """
import sys
from semivit_jax import console
{start}
for number in range(300):
    console.say(f"line {{number}}")
print("went on", file=sys.stderr)
"""


@pytest.mark.parametrize("start", ["", "import os; os.close(1); sys.stdout = None"])
def test_a_reader_that_leaves_ends_nothing(start):
    """`semivit split ... | head`, and a process without standard output."""
    command = [sys.executable, "-c", LEAVING.format(start=start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read().decode().splitlines() == ["went on"]
    assert process.returncode == 0


def test_beside_a_bar_on_a_terminal_names_are_escaped_too(monkeypatch):
    """The bar puts itself in the place of standard output."""
    monkeypatch.setattr("sys.stdout", out := io.TextIOWrapper(io.BytesIO(), "utf-8"))
    monkeypatch.setattr(console.console, "_force_terminal", True)
    line = console.ProgressLine("train", 10, active=True, shown={})
    console.say(os.fsdecode(b"caf\xe9"))
    print("printed")
    line.close()
    out.seek(0)
    written = out.read()
    assert r"caf\udce9" in written
    assert "printed" in written
