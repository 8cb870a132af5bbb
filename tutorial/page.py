"""Read a page of Markdown that has commands in it, run them, and put what they print below them.

A block of `sh` or `python` is a command; a block of `text` right below it is what it prints, and is written anew. A
comment `<!-- not run: REASON -->` above a command leaves it, and what stands below it, alone.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_COMMAND = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>sh|python)\n(?P<command>.*?)```\n"
    r"(?P<shown>\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
_PROGRESS = re.compile(r"(?P<what>\S.*?) \d[\d,]*/(?P<of>\d[\d,]*) ")
_WAITING = re.compile(r"\S.*: (\d+ s so far|\d[\d,]* of \d[\d,]*)$")  # told every ten seconds of what takes so long
_ALARM = re.compile(
    r"E\d{4} .*slow_operation_alarm|\*{20,}$|\[Compiling module .*Very slow compile"
)  # of a busy machine
_NUMBER = re.compile(r"\d[\d,.]*")
_DRAWN = re.compile(r"[━┃┏┓┗┛┡┩╇┳┻│└┘┴─\s]+")  # widths of columns go by the numbers in them


class Command(NamedTuple):
    """A command of a page.

    Attributes:
      language: 'sh' or 'python'.
      text: as it stands on the page.
      output: what the page shows below it, None where nothing is shown.
      not_run: why the page's maker does not run it; '' where it does.
    """

    language: str
    text: str
    output: str | None
    not_run: str


def commands(page: str) -> list[Command]:
    """The commands of a page, in their order."""
    return [_command(found) for found in _COMMAND.finditer(page)]


def _command(found: re.Match[str]) -> Command:
    return Command(found["language"], found["command"], found["output"], found["reason"] or "")


def filled(page: str, folder: Path, *, environ: Mapping[str, str], hidden: Mapping[str, str]) -> str:
    """The page with the outputs of now.

    Args:
      page: its text.
      folder: where the commands run.
      environ: environment variables beside those of this process.
      hidden: what to write in place of some texts, such as the folder's own path.

    Raises:
      RuntimeError: a command fails; its output is told.
    """

    def fill(found: re.Match[str]) -> str:
        command = _command(found)
        if command.not_run:
            return found[0]
        print(command.text, end="", flush=True)
        output = cleaned(_run(command, folder, environ))
        for text, instead in hidden.items():
            output = output.replace(text, instead)
        if found["shown"] is None:
            return found[0]
        return found[0].removesuffix(found["shown"]) + f"\n```text\n{output}```\n"

    return _COMMAND.sub(fill, page)


def _run(command: Command, folder: Path, environ: Mapping[str, str]) -> str:
    program = [sys.executable, "-c"] if command.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run([*program, command.text], cwd=folder, env={**os.environ, **environ}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode} of\n{command.text}\n{done.stdout}")
    return done.stdout


def cleaned(output: str) -> str:
    """Removes from an output what goes by a machine's speed: of lines of progress, the last of each kind stays."""
    lines = [line for line in output.splitlines() if not _WAITING.match(line) and not _ALARM.match(line)]
    last = {_progress(line): number for number, line in enumerate(lines)}
    kept = [line for number, line in enumerate(lines) if _progress(line) is None or last[_progress(line)] == number]
    return "".join(f"{line.rstrip()}\n" for line in kept)


def _progress(line: str) -> tuple[str, str, bool] | None:
    """What a line of progress is of, of how many, and whether it tells of an evaluation; None for other lines."""
    found = _PROGRESS.match(f"{line} ")
    return (found["what"], found["of"], "val/" in line) if found else None


def stable(page: str) -> str:
    """What of a page does not go by the machine and its load: all but numbers, and how wide tables are."""
    return _COMMAND.sub(lambda found: _masked(found[0]), page)


def _masked(text: str) -> str:
    return _DRAWN.sub(" ", _NUMBER.sub("#", text))
