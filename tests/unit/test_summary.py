"""What a run ends with: measured accuracies beside the published ones."""

import dataclasses
import json
import re
import shlex

import pytest

from semivit_jax import files
from semivit_jax.data.dataset import open_task
from semivit_jax.main import COMMANDS
from semivit_jax.training import goodput
from semivit_jax.training import summary as report
from tests.configs import small_config
from tests.serve.runs import digits

REPORTS = {
    "finetune": {"val/acc1": 0.701, "seconds": 1.0, "published_acc1": 71.2},
    "semi": {"val/acc1": 0.75, "val_ema/acc1": 0.763, "seconds": 2.0, "published_acc1": 0.0},
}
ACCOUNT = goodput.Account(
    spent={"": {"starting": 4.0}, "semi": {"training": 60.0, "compiling": 12.0}},
    lost=20.0,
    down=4.0,
    starts=2,
    until=0.0,
)


@pytest.fixture
def summary(tmp_path, monkeypatch):
    """Of a run whose fine-tuning stage has a published accuracy, and whose last stage has none."""
    for stage, content in REPORTS.items():
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "report.json").write_text(json.dumps(content))
    monkeypatch.setattr(report, "baselines", lambda task, data: {})
    return report.summarise(small_config(stages=("finetune", "semi")), digits(), tmp_path, ACCOUNT)


def rows(text: str) -> dict[str, list[str]]:
    cells = ([cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in text.splitlines())
    return {first: rest for first, *rest in cells if rest}


def test_measured_stands_beside_published(summary, capsys):
    assert summary["stages"]["finetune"] == {"acc1": 0.701, "published_acc1": pytest.approx(0.712)}
    report.print_summary(summary)
    table = rows(capsys.readouterr().out)
    assert table["method"] == ["accuracy %", "published %"]
    assert table["fine-tuning only"] == ["70.1", "71.2"]
    assert table["Semi-ViT, teacher (EMA)"] == ["76.3"]  # nothing is published for it


def test_without_a_published_number_there_is_no_such_column(summary, capsys):
    del summary["stages"]["finetune"]["published_acc1"]
    report.print_summary(summary)
    assert "published" not in capsys.readouterr().out


def test_evaluated_on_validation_images_it_says_so(summary, tmp_path, capsys):
    """Without an evaluation split, the images kept back are held out, and belong to no training set."""
    config = small_config(stages=("finetune", "semi"), **{"data.eval_split": "", "data.validation_share": 0.2})
    task = open_task(config, workdir=None, label_free=("mae",))
    found = report.summarise(config, task, tmp_path, ACCOUNT)
    assert (found["num_train"], found["num_test"], found["evaluated_on"]) == (1150, 287, "validation")
    report.print_summary(found)
    assert "40 labeled of 1,150 training images, 287 validation images, seed 0" in capsys.readouterr().out
    assert (summary["num_train"], summary["num_test"], summary["evaluated_on"]) == (1437, 360, "test")
    report.print_summary(summary)
    assert "1,437 training images, 360 test images" in capsys.readouterr().out


def test_the_summary_tells_where_the_time_went(summary, capsys):
    assert summary["goodput"]["share"] == 0.6
    assert sum(summary["goodput"]["seconds"].values()) == 100.0
    report.print_summary(summary)
    told = "goodput: 60% of 100 s since the first of 2 starts went into steps that count; seconds of the rest: "
    assert told + "lost 20, compiling 12, starting 4, down 4" in capsys.readouterr().out


def test_the_summary_of_an_earlier_version_can_be_printed(summary, capsys):
    del summary["evaluated_on"], summary["goodput"]
    report.print_summary(summary)
    assert "360 evaluation images" in capsys.readouterr().out


def typed(text: str) -> list[list[str]]:
    """The commands that a text names, each as a shell takes it apart."""
    return [shlex.split(command) for command in re.findall(r"semivit [^(\n]+", text)]


def test_the_end_names_commands_that_exist(tmp_path, capsys):
    folder = files.Path(tmp_path) / "my run"
    report.say_next(small_config(), folder)
    commands = typed(capsys.readouterr().out)
    assert [name for _, name, *_ in commands] == ["eval", "predict", "train"]
    assert {name for _, name, *_ in commands} <= set(COMMANDS)
    assert all(f"--workdir={folder}" in flags for _, name, *flags in commands if name != "train")


def test_the_end_of_other_data_says_nothing_of_the_demo_and_mae_alone_nothing(tmp_path, capsys):
    folder = files.Path(tmp_path)
    other = small_config()
    report.say_next(dataclasses.replace(other, data=dataclasses.replace(other.data, dataset="own_folder")), folder)
    assert [name for _, name, *_ in typed(capsys.readouterr().out)] == ["eval", "predict"]
    report.say_next(dataclasses.replace(other, stages=("mae",)), folder)
    assert capsys.readouterr().out == ""
