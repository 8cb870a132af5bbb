"""Command lines that lack a flag, or name a file where a folder belongs."""

import pytest

from semivit_jax.cli import exits
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
        (train, ["--config=digits", "--workdir=gs://a"], "--workdir=gs://a is no folder"),
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
