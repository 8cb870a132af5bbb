"""A run with LoRA that is killed while it saves goes on as if nothing had happened."""

import random

import pytest

from tests.e2e.conftest import machine  # noqa: F401
from tests.e2e.killing import kill_once
from tests.e2e.runs import assert_same_run
from tests.serve.runs import write_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]


def test_a_killed_run_with_lora_ends_as_if_nothing_had_happened(machine, tmp_path):  # noqa: F811
    write_run(tmp_path / "origin")
    stages = {"stages": ("finetune", "semi"), "init_from": tmp_path / "origin"}
    changes = {"model.variant": "vit_test2", "model.tune": "lora", **stages}
    machine.finish(tmp_path / "untouched", changes=changes)
    assert kill_once(machine, tmp_path / "killed", random.Random(0), while_saving=True, changes=changes)
    machine.finish(tmp_path / "killed", changes=changes)
    assert_same_run(tmp_path / "killed", tmp_path / "untouched")
