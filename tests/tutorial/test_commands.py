"""What the pages tell people to type is taken by the commands as they are, and what they link to is there."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from semivit_jax import main
from semivit_jax.cli import exits, members, models, overrides
from semivit_jax.training import run
from semivit_jax.weights import importing
from tutorial import page, sample

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config

ROOT = Path(__file__).parents[2]
GUIDES = ("commands", "data", "faq", "index", "labeling", "machines", "tutorial", "using", "weights")
PAGES = ("README.md", *(f"docs/{name}.md" for name in GUIDES))
OTHER_PROGRAMS = {".", "grep", "head", "launch/slurm.sh", "ls", "wc"}


def typed(language):
    """(page, line) of all commands of a language; a line that ends in a backslash goes on in the next."""
    commands = [(name, command) for name in PAGES for command in page.commands((ROOT / name).read_text())]
    blocks = [(name, command.text) for name, command in commands if command.language == language]
    return blocks if language == "python" else [(name, line) for name, text in blocks for line in lines_of(text)]


def lines_of(text):
    return text.replace("\\\n", " ").splitlines()


def refused(argv, monkeypatch):
    """Whether `semivit` takes a command line for bad usage; nothing is trained or fetched, and no run is there."""

    def offline(*_, **__):
        raise OSError("nothing is fetched here")

    monkeypatch.setattr(run, "train", lambda *_, **__: None)
    monkeypatch.setattr(models, "rows", lambda: [])  # of the table, whose numbers take long
    monkeypatch.setattr(members, "run", lambda *_, **__: {})
    monkeypatch.setattr(importing, "import_weights", offline)
    monkeypatch.setattr(overrides, "adopt_preprocessing", lambda *_: [])  # of imported weights, which are not there
    try:
        return main.main(["semivit", *argv]) == exits.BAD_USAGE
    except SystemExit as left:  # as argparse leaves
        return left.code == exits.BAD_USAGE


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the recipes and nothing else."""
    for name in ("configs", "tutorial"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("name", "line"), typed("sh"))
def test_a_line_is_a_command_with_its_flags(name, line, checkout, monkeypatch, capsys):
    for part in re.split(r" \| ", line):
        program, *arguments = shlex.split(part, comments=True)
        if program == "semivit":
            assert not refused(["doctor", "--help"] if arguments == ["doctor"] else arguments, monkeypatch), (
                capsys.readouterr().err
            )
        elif program == "make":
            assert arguments[0] in targets()
        elif program == "python":
            assert arguments[:2] == ["-m", "tutorial.sample"]
            assert sample.parser().parse_args(arguments[2:])
        else:
            assert program in OTHER_PROGRAMS


def targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "line",
    [
        "train --config=configs/own_folder.py --config.data.rot=PHOTOS --workdir=runs/mine",
        "train --config=configs/own_folders.py --workdir=runs/mine",
        "predict --workdir=runs/mine --image=NEW --out=predictions.csv",
        "export --workdir=runs/mine --format=tensorflow --out=deploy",
        "import hf://timm/vit_base_patch16_224.mae --modell vit_b16 --out weights",
        "deploy",
    ],
)
def test_a_line_that_is_none_would_be_noticed(line, checkout, monkeypatch):
    assert refused(shlex.split(line), monkeypatch)


@pytest.mark.parametrize(("name", "text"), typed("python"))
def test_a_program_can_be_read(name, text):
    ast.parse(text)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 900


def test_what_the_tutorial_runs_has_an_output_and_what_it_does_not_a_reason():
    commands = page.commands((ROOT / "docs/tutorial.md").read_text())
    assert len(commands) >= 10
    for command in commands:
        assert bool(command.not_run) == (command.output is None), command
        assert command.not_run or (command.output or "").strip(), command
