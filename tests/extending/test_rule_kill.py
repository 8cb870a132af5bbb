"""A run that is killed goes on with what its rule, wrappers and outliers have learned."""

import signal

import numpy as np
import pytest

from tests.e2e.conftest import machine  # noqa: F401
from tests.e2e.runs import assert_same_run, final_arrays
from tests.serve.runs import write_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

RULES = {
    "aligned(flex)": {},
    "free": {},
    "soft_gauss": {},
    "class_mean": {"semi.rule.every": 2},
    "debiased(relative)": {},
    "simpro": {},
    "aligned(fixed)": {"semi.outliers": "energy", "semi.rule.prior": "model"},
}


@pytest.mark.parametrize("rule", RULES)
def test_a_killed_run_ends_as_if_nothing_had_happened(machine, tmp_path, rule):  # noqa: F811
    write_run(tmp_path / "origin")
    stage = {"stages": ("semi",), "init_from": tmp_path / "origin", "model.variant": "vit_test2"}
    changes = stage | {"semi.pseudo_label_rule": rule} | RULES[rule]
    machine.finish(tmp_path / "untouched", changes=changes)
    started = machine.start(tmp_path / "killed", changes=changes)
    assert started.until(lambda: any((tmp_path / "killed" / "semi").glob("checkpoints/*/MANIFEST.json")))
    started.send(signal.SIGKILL)
    started.kill()
    assert not (tmp_path / "killed" / "DONE").exists()
    assert "continues from step" in machine.finish(tmp_path / "killed", changes=changes)
    assert_same_run(tmp_path / "killed", tmp_path / "untouched")
    learned = [v for name, v in final_arrays(tmp_path / "killed", "semi").items() if "policy_state" in name]
    assert any(np.any(array) for array in learned)
