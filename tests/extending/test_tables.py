"""A logger and a subcommand of one's own: a line in a table is all they need."""

import re
import sys

import pytest

import tests.extending
from semivit_jax import main
from semivit_jax.training import writers
from semivit_jax.weights import layout
from tests.configs import small_config
from tests.extending import command, logger, page
from tests.serve.runs import write_run


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(writers.WRITERS, "loss_csv", logger.LOSS_CSV)
    monkeypatch.setitem(main.COMMANDS, "size", ("tests.extending.command:size", command.WHAT_IT_DOES))


def semivit(*argv):
    return main.main(["semivit", *argv])


def log(folder, steps, *, restored_step):
    config = small_config(**{"log.writers": ("jsonl", "loss_csv")}).log
    opened = writers.open_writers(folder, config, active=True, restored_step=restored_step)
    for step in steps:
        opened.write(step, {"train/loss": step / 3})
        opened.write(step, {"val/acc1": 0.5})
    opened.flush()
    opened.close()


def test_a_logger_goes_on_from_the_restored_step(tmp_path):
    log(tmp_path, [5, 10, 15], restored_step=None)
    with open(tmp_path / "loss.csv", "a") as opened:
        opened.write("2")  # of 20, when the machine went down
    log(tmp_path, [15, 20], restored_step=10)
    lines = [line.split(",") for line in (tmp_path / "loss.csv").read_text().splitlines()]
    assert [(int(step), float(loss)) for step, loss in lines] == [(step, step / 3) for step in (5, 10, 15, 20)]


def test_a_logger_begins_anew_with_its_run(tmp_path):
    log(tmp_path, [5, 10], restored_step=None)
    log(tmp_path, [5], restored_step=None)
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 1


def test_a_subcommand_is_called_and_told_of(tmp_path, capsys):
    _, params, _ = write_run(tmp_path / "run")
    assert semivit("size", f"--workdir={tmp_path / 'run'}") == 0
    arrays = layout.flatten(params).values()
    assert f"{sum(a.size for a in arrays):,} parameters in {len(arrays)} arrays" in capsys.readouterr().out
    assert semivit("--help") == 0
    assert f"size     {command.WHAT_IT_DOES}" in capsys.readouterr().out


def test_what_a_subcommand_refuses_is_told_in_a_line(tmp_path, capsys):
    assert semivit("size", f"--workdir={tmp_path}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"semivit: error: {tmp_path} is neither a run folder")


def test_the_program_on_the_page_starts_the_command_with_the_line_in_its_table(monkeypatch):
    _, program, _ = re.split(r"```(?:python)?\n", page.HEAD)
    started = []
    monkeypatch.delitem(writers.WRITERS, "loss_csv")
    monkeypatch.setitem(sys.modules, "my_package", tests.extending)
    monkeypatch.setattr(main, "run", lambda: started.append(writers.WRITERS["loss_csv"]))
    exec(program, {})
    assert started == [logger.LOSS_CSV]
