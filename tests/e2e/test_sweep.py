"""A real sweep: interrupted and started again it goes on where it was, and its members end as runs of their own do."""

import csv
import signal
import sys

import pytest

from tests.e2e.conftest import stop
from tests.e2e.runs import TINY, assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

STAGES = ("mae", "finetune")


def command(root):
    flags = [f"--config.{key}={value}" for key, value in {**TINY, "stages": STAGES}.items()]
    return [sys.executable, "-m", "semivit_jax.main", "sweep", "--config=digits", "--set=seed=0,1",
            f"--workdir={root}", *flags]  # fmt: skip


def test_an_interrupted_sweep_goes_on(machine, tmp_path):
    root = tmp_path / "sweep"
    assert stop(machine.start_commands([command(root)]), signal.SIGINT, at="finetune: step") == [130]
    assert (root / "0_seed=0" / "mae" / "DONE").exists()
    assert not (root / "0_seed=0" / "DONE").exists()
    assert not (root / "1_seed=1").exists()
    again = machine.start_commands([command(root)])
    assert again.wait() == [0], again.output()
    said = again.output()
    assert "mae: finished already" in said
    assert "finetune: continues from step" in said
    assert "fine-tuning only %" in said
    with open(root / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["state"]) for row in rows] == [("0", "finished"), ("1", "finished")]
    machine.finish(tmp_path / "alone", changes={"stages": STAGES, "seed": 1})
    assert_same_run(root / "1_seed=1", tmp_path / "alone")
