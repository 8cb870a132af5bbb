"""What is logged survives restarts: lines after the restored step go, windows continue."""

import io
import json
import logging

import numpy as np
import pytest

from semivit_jax import console
from semivit_jax.ops.metrics import Mean
from semivit_jax.training import writers
from semivit_jax.training.progress import shown
from semivit_jax.training.writers import Window
from tests.configs import small_config


def open_writer(folder, *, restored_step=None, active=True, **log):
    config = small_config(**{"log.tensorboard": False} | {f"log.{k}": v for k, v in log.items()}).log
    return writers.open_writers(folder, config, active=active, restored_step=restored_step)


def write(folder, steps, *, restored_step):
    writer = open_writer(folder, restored_step=restored_step)
    for step in steps:
        writer.write(step, {"train/loss": float(step)})
    writer.close()


def steps_in(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("restored", "left"), [(4, [2, 4]), (3, [2]), (6, [2, 4, 6]), (None, [])])
def test_lines_after_the_restored_step_are_removed(tmp_path, restored, left):
    write(tmp_path, [2, 4, 6], restored_step=None)
    write(tmp_path, [], restored_step=restored)
    assert steps_in(tmp_path) == left


def test_a_half_written_line_is_removed(tmp_path):
    write(tmp_path, [2, 4], restored_step=None)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "train/lo')
    write(tmp_path, [6], restored_step=4)
    assert steps_in(tmp_path) == [2, 4, 6]


def test_numbers_json_does_not_know_become_strings(tmp_path):
    writer = open_writer(tmp_path)
    writer.write(1, {"train/loss": float("nan")})
    writer.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/loss": "nan"}


@pytest.mark.parametrize("asked", [True, False])
def test_tensorboard_is_written_where_the_config_asks_for_it(tmp_path, asked):
    writer = open_writer(tmp_path, tensorboard=asked)
    writer.write(1, {"train/loss": 2.0})
    writer.close()
    assert (tmp_path / "tb").exists() == asked


def test_a_long_warning_is_one_line(monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr(console.console, "_file", printed)  # `file` would be restored to this test's stdout
    text = "passing over '[red]" + 60 * "long " + "name.jpg'"
    console._Lines().emit(logging.makeLogRecord({"name": "semivit_jax", "msg": "%s", "args": (text,)}))
    assert printed.getvalue() == text + "\n"


def test_other_hosts_write_nothing(tmp_path):
    writer = open_writer(tmp_path, active=False, tensorboard=True)
    writer.write(1, {"train/loss": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())


def update(value, count=1.0):
    return {"loss": Mean(np.asarray([value, value]), np.asarray([count, count]))}


def test_a_window_goes_on_over_a_restart():
    whole, first = Window(), Window()
    for window in (whole, first):
        window.add(update(0.1))
    second = Window(json.loads(json.dumps(first.state())))
    for window in (whole, second):
        window.add(update(0.7, count=3.0))
    assert second.means() == whole.means() == {"loss": (0.2 + 1.4) / 8}


def test_the_progress_line_leaves_out_what_is_a_mean_of_nothing(capsys):
    window = Window()
    window.add({"mask_rate": Mean(np.zeros(1), np.ones(1)), "pseudo_label_acc": Mean(np.zeros(1), np.zeros(1))})
    values = {f"train/{k}": v for k, v in window.means().items()}
    assert values == {"train/mask_rate": 0, "train/pseudo_label_acc": 0}  # as metrics.jsonl has them
    undefined = {f"train/{k}" for k in window.empty()}
    console.ProgressLine("semi", 9, active=True, shown=shown("semi")).show(9, values, undefined=undefined)
    window.add({"pseudo_label_acc": Mean(np.zeros(1), np.ones(1))})  # all wrong is an accuracy
    assert not window.empty()
    assert capsys.readouterr().out == "semi 9/9  mask_rate 0.0%\n"


def test_the_progress_line_tells_shares_in_percent_as_the_tables_do(capsys):
    values = {"perf/images_per_sec": 12345.64, "train/loss": 0.123456, "val/acc1": 0.9375, "train/lr": 0.1}
    console.ProgressLine("finetune", 9, active=True, shown=shown("finetune")).show(9, values)
    assert capsys.readouterr().out == "finetune 9/9  loss 0.1235  val/acc1 93.8%  12,345.6 images/s\n"


def test_a_dropped_update_does_not_spoil_the_means():
    window = Window()
    window.add(update(1.0))
    window.add(update(float("nan")))
    window.add(update(float("inf")))
    assert window.means() == {"loss": 1.0}
