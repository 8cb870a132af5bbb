"""A run goes on from its own checkpoints, whatever became of the weights it was started from."""

import json
import shutil

import jax.numpy as jnp
import pytest

from semivit_jax import config, main
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.cli.flags import read_config
from semivit_jax.files import write_json
from semivit_jax.recipes import find
from semivit_jax.training import loop, summary
from tests.configs import small_config
from tests.e2e.planned import PLANNED, TOTAL, Trouble, seen_positions, stage_with

# How ml_collections reads a config.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

MEAN = [0.25, 0.25, 0.25]  # of the source; the recipe has another


@pytest.fixture
def source(tmp_path):
    """Another run, of the stand-in for the semi stage."""
    folder = tmp_path / "source"
    folder.mkdir()
    settings = config.to_dict(small_config(**{"data.mean": tuple(MEAN)}))
    write_json(folder / "config.json", settings)
    checkpoints = Saver(folder / "semi" / "checkpoints", keep=1)
    params = {"seen": jnp.zeros(64), "acc1": jnp.zeros(())}
    facts = {"class_names": list("0123456789"), "config": settings}
    checkpoints.save(3, {"params": params, "ema_params": params}, facts)
    checkpoints.close()
    return folder


def test_reading_the_command_line_touches_no_device(source, monkeypatch):
    """Or the processes of a run could not be brought together any more; what was adopted is told after that."""
    monkeypatch.setattr("jax.process_index", lambda: pytest.fail("a device was touched"))
    argv = ["--config=digits", f"--config.init_from={source}"]
    read, notes = read_config("train", find.with_paths(argv), None)
    assert read.data.mean == tuple(MEAN)
    assert [note for note in notes if "config.data.mean = (0.25, 0.25, 0.25), from" in note]


@pytest.fixture
def start(machine, monkeypatch, capsys, tmp_path, source):
    """`semivit train` from the source, ending before an update's metrics are read; returns exit code and output."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    monkeypatch.setattr(summary, "baselines", lambda task, data: {})
    for module in ("compiled", "setup"):  # its parameters are compared with the source's before it begins
        patched = f"semivit_jax.training.{module}.make_stage"
        monkeypatch.setattr(patched, lambda *args, **kwargs: stage_with(Trouble()))
    consume = loop.Loop._consume

    def go(*, until=TOTAL, init_from=source):
        def consume_or_end(self, step, found, **options):
            if step > until:
                self.wait()
                raise OSError("ended here")
            consume(self, step, found, **options)

        monkeypatch.setattr(loop.Loop, "_consume", consume_or_end)
        values = PLANNED | {"stages": ("semi",), "init_from": init_from, "train.compilation_cache": False}
        flags = [f"--config.{key}={value}" for key, value in values.items()]
        argv = ["semivit", "train", "--config=digits", f"--workdir={tmp_path / 'run'}", *flags]
        monkeypatch.setattr("sys.argv", argv)  # where ml_collections finds the overrides
        code = main.main(argv)
        printed = capsys.readouterr()
        return code, " ".join((printed.out + printed.err).split())

    return go


def change(source):
    """What was there is gone, and there are weights that see other images."""
    shutil.rmtree(source / "semi")
    write_json(source / "config.json", config.to_dict(small_config(**{"data.mean": (0.1, 0.1, 0.1)})))


@pytest.mark.parametrize("spoil", [shutil.rmtree, change], ids=["gone", "changed"])
def test_a_run_with_a_checkpoint_needs_no_source(start, source, tmp_path, spoil):
    assert start(until=6)[0] == 1
    stage = tmp_path / "run" / "semi"
    record = (stage / "started_from.json").read_bytes()
    spoil(source)
    code, said = start()
    assert code == 0, said
    assert "semi: continues from step 4" in said
    assert "warning" not in said
    assert seen_positions(stage) == list(range(TOTAL))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["mean"] == MEAN
    assert (stage / "started_from.json").read_bytes() == record
    told = json.loads(record)
    assert told["source"] == f"{source}/semi/checkpoints/3 (params)"
    assert "state/_METADATA" in told["files"]


def test_another_source_is_not_read_any_more(start, source, tmp_path):
    assert start(until=6)[0] == 1
    code, said = start(init_from=tmp_path / "another")
    assert code == 0, said
    assert f"warning: config.init_from {tmp_path / 'another'} is not read; {tmp_path / 'run'} goes on from" in said


def test_before_the_first_checkpoint_the_source_is_needed(start, source):
    assert start(until=2)[0] == 1
    moved = source.rename(source.with_name("moved"))
    code, said = start()
    assert code == 1
    assert f"config.init_from {source} is not a folder" in said
    moved.rename(source)
    assert start()[0] == 0


def test_before_the_first_checkpoint_another_source_is_another_run(start, source):
    assert start(until=2)[0] == 1
    write_json(source / "config.json", config.to_dict(small_config(**{"data.mean": (0.1, 0.1, 0.1)})))
    code, said = start()
    assert code == 1
    assert "data.mean: (0.25, 0.25, 0.25) -> (0.1, 0.1, 0.1)" in said


def test_a_source_that_is_missing_claims_no_workdir(start, tmp_path):
    code, said = start(init_from=tmp_path / "nowhere")
    assert code == 1
    assert f"config.init_from {tmp_path / 'nowhere'} is not a folder" in said
    assert not (tmp_path / "run").exists()
