"""Loggers of others with their real packages: a store on this machine, wandb offline; nothing is sent."""

import contextlib
import json
import math
import sqlite3
import struct

import pytest

from semivit_jax.config import to_dict
from semivit_jax.training import writers
from semivit_jax.training.loggers import aside
from tests.configs import small_config

# Their own use of what Python and each other deprecate.
pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("default")]
WAIT_SECONDS = 120.0  # MLflow makes the tables of its first store for half a minute


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The folder of a stage, and stores beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr(aside, "FLUSH_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(aside, "CLOSE_SECONDS", WAIT_SECONDS)
    folder = tmp_path / "vit_h" / "semi"
    folder.mkdir(parents=True)
    (folder.parent / "config.json").write_text(json.dumps(to_dict(small_config())))
    return folder


def train(folder, name, caplog):
    """Two starts, the second of which goes on from update 2 of three."""
    log = small_config(**{"log.writers": ("jsonl", name)}).log
    for steps, restored_step in (((1, 2, 3), None), ((3, 4), 2)):
        opened = writers.open_writers(folder, log, active=True, restored_step=restored_step)
        for step in steps:
            opened.write(step, {"train/loss": step / 4, "train/grad_norm": math.nan if step == 1 else 1.0})
        opened.flush()
        opened.close()
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("semivit_jax")]


def test_mlflow_has_one_run_with_all_numbers(stage, caplog):
    import mlflow

    train(stage, "mlflow", caplog)
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'semivit_jax'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("vit_h/semi", "FINISHED")
    assert run.data.tags["workdir"] == str(stage.parent)
    assert run.data.params["semi.confidence_threshold"] == "0.8"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [(s, s / 4) for s in (1, 2, 3, 3, 4)]
    first, *_ = client.get_metric_history(run.info.run_id, "train/grad_norm")
    assert math.isnan(first.value)


def test_trackio_has_one_run_with_all_numbers(stage, caplog, tmp_path):
    train(stage, "trackio", caplog)
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "semivit_jax.db")) as store:
        rows = store.execute("select run_id, run_name, step, metrics from metrics").fetchall()
        ((config,),) = store.execute("select config from configs").fetchall()
    assert len({(number, name) for number, name, _, _ in rows}) == 1
    assert rows[0][1].startswith("vit_h/semi-")
    found = [(step, json.loads(numbers)) for _, _, step, numbers in rows]
    assert [(step, numbers["train/loss"]) for step, numbers in found] == [(s, s / 4) for s in (1, 2, 3, 3, 4)]
    assert found[0][1]["train/grad_norm"] == "NaN"
    assert json.loads(config)["semi.confidence_threshold"] == 0.8


def records(file):
    """What a .wandb file holds: after 7 bytes blocks of 32 KiB, with parts of a CRC, a length and a kind each."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole, place = whole + data[place + 7 : place + 7 + length], place + 7 + length
        if kind in (1, 4):  # it is whole, or this was the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def test_wandb_has_one_run_with_all_numbers_to_send_later(stage, caplog):
    train(stage, "wandb", caplog)
    runs, found = set(), []
    for file in sorted((stage / "wandb").glob("offline-run-*/*.wandb")):
        for record in records(file):
            if record.WhichOneof("record_type") == "run":
                told = record.run
                runs.add((told.run_id, told.project, told.display_name, told.run_group))
                config = {entry.key: entry.value_json for entry in told.config.update}
            if record.WhichOneof("record_type") == "history":
                numbers = {entry.nested_key[0]: json.loads(entry.value_json) for entry in record.history.item}
                found.append((numbers["step"], numbers["train/loss"]))
    (run,) = runs
    assert run[1:] == ("semivit_jax", "vit_h/semi", str(stage.parent)[-128:])
    assert found == [(s, s / 4) for s in (1, 2, 3, 3, 4)]
    assert config["semi.confidence_threshold"] == "0.8"


def test_wandb_without_an_account_says_what_to_do(stage, monkeypatch, caplog):
    import wandb

    wandb.teardown()  # a process reads the variables once
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(stage))
    monkeypatch.setenv("NETRC", str(stage / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    log = small_config(**{"log.writers": ("jsonl", "wandb")}).log
    writers.open_writers(stage, log, active=True, restored_step=None).close()
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("semivit_jax")]
    assert "no account: `wandb login`, or WANDB_API_KEY; without one WANDB_MODE=offline" in line
