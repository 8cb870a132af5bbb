"""Command lines that lack a flag, or name a file where a folder belongs."""

import argparse
import contextlib
import importlib
import os
import subprocess
import sys

import pytest

from semivit_jax import main
from semivit_jax.cli import exits, flags, paths
from semivit_jax.cli.split import split
from semivit_jax.cli.train import train

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config


@pytest.mark.parametrize(
    ("command", "argv", "said"),
    [
        (train, [], "--config=FILE and --workdir=DIR must be given"),
        (train, ["--config=digits"], "--workdir=DIR must be given"),
        (train, ["--workdir=x"], "--config=FILE must be given"),
        (train, ["digits", "--config=digits", "--workdir=x"], "'digits' is neither a flag nor the value of one"),
        (train, ["--config=digits", "--workdir=gs://a"], "--workdir=gs://a: 'a' is no bucket's name"),
        (split, ["--config=digits"], "--out=FILE must be given"),
    ],
)
def test_what_is_wrong_is_named_alone(command, argv, said, capsys):
    assert command(argv) == exits.BAD_USAGE
    line = capsys.readouterr().err
    assert line.startswith(f"semivit {command.__name__}: {said}")
    assert line.count("\n") == 1


@pytest.mark.parametrize("more", [[], ["--config.init_from=weights"]])
def test_a_workdir_that_is_a_file_is_called_one(more, tmp_path, capsys):
    (tmp_path / "run").touch()
    assert train(["--config=digits", f"--workdir={tmp_path / 'run'}", *more]) == exits.BAD_USAGE
    assert "run is a file; legal is a folder" in capsys.readouterr().err


# ---- one parser for all


def own_parser():
    parser = flags.config_parser("toy")
    parser.add_argument("--out")
    parser.add_argument("--compile", nargs="?", const=True, default=True, type=flags.boolean)
    parser.add_argument("--nocompile", dest="compile", action="store_false")
    return parser


@pytest.mark.parametrize(
    "argv",
    [
        ["--out=x", "--config=digits", "--config.seed=3"],
        ["--out", "x", "--config", "digits", "--config.seed", "3"],
        ["-out=x", "-config=digits", "-config.seed", "3"],
        ["-config=digits", "--config.seed=3", "-out", "x"],
    ],
    ids=" ".join,
)
def test_every_way_to_write_a_flag_reads_the_same(argv):
    given = flags.read_flags(own_parser(), argv, required=("config", "out"))
    config, _ = flags.read_config("toy", given.config, None)
    assert (given.flags.out, config.data.dataset, config.seed) == ("x", "digits", 3)


@pytest.mark.parametrize(
    ("argv", "compiles"),
    [
        ([], True),
        (["--compile"], True),
        (["--nocompile"], False),
        (["--compile=false"], False),
        (["-nocompile"], False),
    ],
    ids=str,
)
def test_what_may_be_switched_off(argv, compiles):
    assert flags.read_flags(own_parser(), argv, required=()).flags.compile is compiles


@pytest.mark.parametrize("off", ["--noconfig.train.deterministic", "--config.train.deterministic=False"])
def test_a_key_may_be_switched_off_too(off):
    for last, expected in (("--config.train.deterministic", True), (off, False)):
        argv = ["--config=digits", "--config.train.deterministic", last, "--out=x"]
        given = flags.read_flags(own_parser(), argv, required=("out",))
        assert flags.read_config("toy", given.config, None)[0].train.deterministic is expected


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--config=digits", "--workdir=x", "--outt=y"], "'--outt=y' is neither a flag nor the value of one"),
        (["--config=digits", "--workdir=x", "--config.seed=1", "2"], "'2' is neither a flag"),
        (["--config=digits", "--workdir=x", "--config.train.deterministic", "yes"], "'yes' is neither a flag"),
        (["--config=digits", "--workdir"], "expected one argument"),
    ],
)
def test_what_no_flag_takes_is_named(argv, said, capsys):
    assert train(argv) == exits.BAD_USAGE
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


# ---- the table of commands


def greet(argv):
    """A command of this file's own."""
    print("hello", *argv)
    return 7


def test_an_unknown_command_is_bad_usage_and_shows_the_others(capsys):
    assert main.main(["semivit", "trian"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("semivit: unknown command 'trian'\n")
    assert all(f"\n  {name} " in said for name in main.COMMANDS)


def test_a_command_is_one_line_in_the_table(monkeypatch, capsys):
    monkeypatch.setitem(main.COMMANDS, "greet", (f"{__name__}:greet", "say hello: WHOM"))
    assert main.main(["semivit", "greet", "you"]) == 7
    assert capsys.readouterr().out == "hello you\n"
    assert main.main(["semivit", "--help"]) == 0
    assert "  greet    say hello: WHOM\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_is_a_function_of_its_own_file(name):
    module, function = main.COMMANDS[name][0].split(":")
    assert importlib.import_module(module).__dict__[function].__module__ == module


def loaded_by(code):
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in found.stdout.splitlines()[-1].split()}


def test_help_waits_for_no_library():
    assert not loaded_by("from semivit_jax import main; main.main(['semivit', '--help'])") & {"jax", "absl", "numpy"}


HEAVY = {"flax", "orbax", "grain", "sklearn", "tensorflow_datasets", "tensorboardX", "cv2"}


def test_a_mistyped_flag_waits_for_no_library_that_training_needs():
    modules = ("train", "split", "plan", "prepare")
    assert not loaded_by("; ".join(f"import semivit_jax.cli.{name}" for name in modules)) & HEAVY


def test_training_on_photos_waits_for_no_library_of_other_data_or_logs():
    found = loaded_by("import semivit_jax.training.run")
    assert not found & {"sklearn", "tensorflow_datasets", "tensorboardX"}


# ---- paths


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("kind", [paths.place, paths.output_file, paths.output_folder])
def test_a_tilde_is_the_home_wherever_it_stands(kind, home):
    assert kind("~/runs/a") == home / "runs" / "a"
    with pytest.raises(argparse.ArgumentTypeError, match="there is no home folder ~nobody_here"):
        kind("~nobody_here/a")


COMMANDS_WITH_OUT = {
    "split": ["--config=digits"],
    "plan": ["--config=digits", "--topology=v5e:2x2"],
    "eval": ["--workdir=absent"],
    "predict": ["--workdir=absent", "--images=absent"],
    "export": ["--workdir=absent", "--format=timm"],
    "import": ["absent.safetensors", "--model=vit_test2"],
}


@pytest.mark.parametrize("out", ["here/file/below", "read_only/x"])
@pytest.mark.parametrize("command", COMMANDS_WITH_OUT)
def test_an_output_that_cannot_be_written_is_told_before_anything_else(command, out, home, monkeypatch, capsys):
    (home.parent / "here" / "file").touch()
    (home.parent / "read_only").mkdir()
    allowed = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "read_only" not in str(path) and allowed(path, mode))
    with contextlib.suppress(SystemExit):  # as argparse leaves
        assert main.main(["semivit", command, *COMMANDS_WITH_OUT[command], f"--out={home.parent / out}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{home.parent / out} cannot be written: " in last
    assert {path.name for path in home.parent.iterdir()} == {"home", "here", "read_only"}
