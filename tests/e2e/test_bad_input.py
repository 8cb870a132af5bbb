"""Bad input through the real entry point: exit code, and a message that names the value and what is legal."""

import pytest

from semivit_jax import main
from semivit_jax.checkpoints import workdir
from tests.configs import small_config
from tests.e2e.runs import STAGES

# How ml_collections reads a config.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

BAD_USAGE, FAILED = 2, 1


@pytest.fixture
def semivit(machine, monkeypatch, capsys, tmp_path):
    """Runs a command; returns (exit code, what it printed)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))

    def run(command, *arguments):
        # ml_collections finds the overrides of a config in sys.argv.
        monkeypatch.setattr("sys.argv", ["semivit", command, *arguments])
        code = main.main(["semivit", command, *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def train(semivit, tmp_path):
    def run(*arguments):
        flags = ("--config=digits", f"--workdir={tmp_path / 'run'}", "--config.train.compilation_cache=False")
        return semivit("train", *flags, *arguments)

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.semi.base_lrr=1"], ["base_lrr"]),
        (["--config.semi.batch_size=many"], ["--config.semi.batch_size=many", "'many' must be a whole number"]),
        (["--config.semi.epochs=many"], ["--config.semi.epochs=many", "'many' must be a number"]),
        (["--config.semi.teacher=both"], ["config.semi.teacher is 'both'", "ema, student"]),
        (["--config.semi.accum=3"], ["config.semi.batch_size 40 is not divisible by config.semi.accum 3"]),
        (["--config.checkpoint.save_every_steps=0"], ["config.checkpoint.save_every_steps is 0", "at least 1"]),
        (["--config=digitz"], ["there is no config 'digitz'", "digits"]),
        (["--config=digits:labels=1"], ["labels=1", "labels_per_class=4"]),
        (["more"], ["more"]),
        (["--workdir=s3://bucket/run"], ["s3://bucket/run: orbax", "mount the bucket"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_usage(train, tmp_path, arguments, words):
    code, printed = train(*arguments)
    assert code == BAD_USAGE
    assert all(word in printed for word in words), printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--config.semi.batch_size=41"],
            ["config.semi.batch_size 41", "nearest legal batches on 1 device: 40 or 42; legal device counts: none"],
        ),
        (["--config.mesh.fsdp=3"], ["config.mesh.fsdp is 3", "on 1 device, legal are [1]"]),
        (["--config.data.labels_per_class=200"], ["200", "labels_per_class"]),
        (["--config.data.dataset=no_such_set"], ["no_such_set", "prepare"]),
        (["--config.init_from=/no/such/run", "--config.stages=('semi',)"], ["/no/such/run"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_values_that_do_not_fit_the_data_or_the_devices_stop_before_training(train, tmp_path, arguments, words):
    code, printed = train(*arguments)
    assert code == FAILED
    assert all(word in printed for word in words), printed
    assert not any((tmp_path / "run" / stage / "metrics.jsonl").exists() for stage in STAGES)


def test_a_workdir_of_another_config_names_the_keys(train, tmp_path):
    config = small_config(**{"semi.ema_decay": 0.99})
    workdir.claim(tmp_path / "run", config, first_host=True, say=print)
    code, printed = train("--config.seed=1", "--config.semi.ema_decay=0.5")
    assert code == FAILED
    assert "belongs to a run with another config" in printed
    assert "seed: 0 -> 1" in printed
    assert "semi.ema_decay: 0.99 -> 0.5" in printed


def test_a_workdir_without_a_run_cannot_be_evaluated(semivit, tmp_path):
    code, printed = semivit("eval", f"--workdir={tmp_path}")
    assert code == FAILED
    assert f"{tmp_path} is neither a run folder" in printed


def test_a_workdir_that_is_a_file_is_named(train, tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    code, printed = train()
    assert code == BAD_USAGE
    assert f"{tmp_path / 'run'} is a file" in printed


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["eval"]], ids=str)
def test_unknown_or_incomplete_commands(capsys, arguments):
    try:
        code = main.main(["semivit", *arguments])
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    assert code == BAD_USAGE
    assert "semivit" in capsys.readouterr().err
