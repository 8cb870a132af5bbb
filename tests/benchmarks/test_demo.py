"""The demo's benchmark trains checkouts in turn, each with its own source, and tells their medians."""

import json
import subprocess

import pytest

from benchmarks import demo

# Stands for the program: its teacher reaches what a file says, and every run takes a second more than the last.
PROGRAM = """
import json, os, sys
from pathlib import Path

assert os.environ["FREED"] == "kept by make demo"
config, workdir = (argument.partition("=")[2] for argument in sys.argv[2:])
number = Path("number")
taken = int(number.read_text()) + 1
number.write_text(str(taken))
Path(workdir).mkdir(parents=True)
if Path("broken").exists():
    sys.exit("it broke")
stages = {"mae": {}, "finetune": {"acc1": 0.5}, "semi": {"acc1": 0.25, "ema_acc1": float(Path("teacher").read_text())}}
summary = {"stages": stages, "seconds": {"semi": taken, "total": taken}, "config": config}
Path(workdir, "summary.json").write_text(json.dumps(summary))
"""


def checkout(folder, *, teacher):
    """A repository whose program is PROGRAM."""
    (folder / "semivit_jax").mkdir(parents=True)
    (folder / "semivit_jax" / "__init__.py").touch()
    (folder / "semivit_jax" / "main.py").write_text(PROGRAM)
    (folder / "teacher").write_text(str(teacher))
    (folder / "number").write_text("0")
    (folder / "Makefile").write_text(
        "demo:\n\t@echo installs\n\tFREED='kept by make demo' semivit train --config=digits\n"
    )
    (folder / ".gitignore").write_text("number\n__pycache__\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture
def two(tmp_path):
    return checkout(tmp_path / "before", teacher=0.9), checkout(tmp_path / "after", teacher=0.95)


def test_checkouts_take_turns_and_medians_are_told(two, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    demo.main([*map(str, two), "--times=3", f"--out={out}"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["checkout"] for row in rows] == ["before", "after"] * 3
    assert [row["seconds"]["semi"] for row in rows] == [1, 1, 2, 2, 3, 3]
    _, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[2], line[3], line[-1]) for line in lines] == [
        ("before", "3", "2", "90.0"),
        ("after", "3", "2", "95.0"),
    ]


def test_a_row_names_the_commit_and_whether_files_differ_from_it(two, tmp_path):
    clean, changed = two
    (changed / "teacher").write_text("0.97")
    rows = [demo.train(folder, seed=0, compiled=tmp_path) for folder in (clean, changed)]
    assert [row.commit.endswith("+") for row in rows] == [False, True]
    assert rows[1].accuracy["teacher"] == 0.97


def test_a_run_that_fails_ends_the_benchmark(two, tmp_path):
    (two[0] / "broken").touch()
    with pytest.raises(SystemExit, match=r"before: exit code 1\nit broke"):
        demo.train(two[0], seed=0, compiled=tmp_path)
