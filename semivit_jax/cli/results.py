"""Tell how far the members of a sweep are, and what those that are finished have reached."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from semivit_jax import console
from semivit_jax.checkpoints import workdir
from semivit_jax.cli.grid import Member
from semivit_jax.files import Path, read_json, writing
from semivit_jax.stages import STAGES

FILE = "sweep.csv"


class Result(NamedTuple):
    """How far a member is.

    Attributes:
      state: 'new', 'begun' or 'finished'.
      summary: its summary.json, {} before it is finished.
      exit_code: of its last start by this process; None where there was none.
    """

    state: str
    summary: Mapping[str, Any]
    exit_code: int | None


def read(root: Path, members: Sequence[Member], codes: Mapping[int, int]) -> list[Result]:
    """Results of all members; `codes` by number, where this process has started them."""
    return [_read(root / member.name, codes.get(member.number)) for member in members]


def _read(folder: Path, code: int | None) -> Result:
    if workdir.is_done(folder):
        return Result("finished", read_json(folder / "summary.json"), code)
    return Result("begun" if (folder / "config.json").exists() else "new", {}, code)


def show(members: Sequence[Member], results: Sequence[Result]) -> None:
    """Prints a table with a row for each member, in percent, with a column for every method that one of them has."""
    columns = {(stage, key): method for stage, spec in STAGES.items() for method, key in spec.rows}
    used = [place for place in columns if any(_score(result, *place) is not None for result in results)]
    table = Table()
    table.add_column("member")
    table.add_column("state")
    for place in used:
        table.add_column(f"{columns[place]} %", justify="right")
    for member, result in zip(members, results, strict=True):
        found = [_score(result, *place) for place in used]
        table.add_row(member.name, _state(result), *("" if score is None else f"{100 * score:.1f}" for score in found))
    console.console.print(table)


def write(root: Path, members: Sequence[Member], results: Sequence[Result]) -> None:
    """Writes sweep.csv: number, folder and values of each member, its state, and its summary's numbers by stage."""
    scores = dict.fromkeys(name for result in results for name in _scores(result))  # in order
    keys = list(members[0].values)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["member", "folder", *keys, "state", "exit_code", *scores, "seconds", "goodput"])
    for member, result in zip(members, results, strict=True):
        found, summary = _scores(result), result.summary
        code = "" if result.exit_code is None else result.exit_code
        values = [member.values[key] for key in keys]
        time = [summary.get("seconds", {}).get("total", ""), summary.get("goodput", {}).get("share", "")]
        numbers = [found.get(name, "") for name in scores]
        rows.writerow([member.number, member.name, *values, result.state, code, *numbers, *time])
    with writing(root / FILE) as opened:
        opened.write(text.getvalue().encode())


def _state(result: Result) -> str:
    return f"{result.state}, exit code {result.exit_code}" if result.exit_code else result.state


def _score(result: Result, stage: str, key: str) -> float | None:
    return result.summary.get("stages", {}).get(stage, {}).get(key)


def _scores(result: Result) -> dict[str, float]:
    stages = result.summary.get("stages", {})
    return {f"{stage}/{key}": value for stage, entries in stages.items() for key, value in entries.items()}
