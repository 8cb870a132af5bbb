"""Two real processes, other numbers of devices, and hosts that disagree."""

import json
import re
import shutil
import signal
import sys

import pytest

from semivit_jax.checkpoints.reading import newest_good
from tests.e2e.conftest import stop
from tests.e2e.runs import LAST, assert_close_run, assert_equal_in_float64

pytestmark = pytest.mark.xdist_group("runs")


@pytest.mark.slow  # by default: two processes go on below with a run that began on eight devices
def test_two_processes_agree_with_one(untouched_pair, untouched):
    assert_close_run(untouched_pair, untouched, rtol=1e-5)


@pytest.mark.slow  # by default: two processes evaluate while they train, below, to the numbers of one
@pytest.mark.parametrize("of", ["run", "checkpoint"])
def test_two_processes_grade_weights_together(machine, untouched, tmp_path, of):
    """As the run did in one. What they need to know before they may meet is read without touching a device."""
    source = untouched if of == "run" else newest_good(untouched / "semi" / "checkpoints")
    command = [sys.executable, "-m", "semivit_jax.main", "eval", f"--workdir={source}", f"--out={tmp_path / 'grades'}"]
    started = machine.start_commands([command] * 2)
    assert set(started.wait()) == {0}, started.output()
    found, report = (json.loads(p.read_text()) for p in (tmp_path / "grades", untouched / "semi" / "report.json"))
    for tree, prefix in (("params", "val"), ("ema_params", "val_ema")):
        assert found["results"][tree]["num_images"] == 360
        assert found["results"][tree]["loss"] == pytest.approx(report[f"{prefix}/loss"], rel=1e-5)


def begin(machine, workdir, **options):
    """Begins a run on 4 devices, goes on with 8, and stops it in its last stage."""
    assert stop(machine.start(workdir, devices=4, **options), signal.SIGTERM, at="mae: step") == [75]
    assert stop(machine.start(workdir, devices=8, **options), signal.SIGTERM, at="semi: step") == [75]
    return workdir


@pytest.fixture(scope="module")
def begun(machine, tmp_path_factory):
    """A run that began on 8 devices."""
    workdir = tmp_path_factory.mktemp("runs") / "begun"
    assert stop(machine.start(workdir, devices=8, changes=LAST), signal.SIGTERM, at="semi: step") == [75]
    return workdir


@pytest.mark.parametrize(
    ("processes", "devices"),
    [
        pytest.param(1, 4, id="8 to 4 devices", marks=pytest.mark.slow),
        pytest.param(2, 1, id="1 to 2 processes"),
    ],
)
def test_a_run_goes_on_elsewhere(machine, begun, untouched, tmp_path, processes, devices):
    workdir = shutil.copytree(begun, tmp_path / "run")
    said = machine.finish(workdir, processes=processes, devices=devices, changes=LAST)
    assert "semi: continues from step" in said
    assert_close_run(workdir, untouched, rtol=1e-4)  # 4e-5 was seen, in moments; float64 below says it is rounding


@pytest.mark.slow
def test_in_float64_processes_and_devices_change_nothing(machine, tmp_path):
    """What float32 shows between such runs is its rounding: in float64 all of it vanishes, nothing left out."""
    wide = {"altered": {"wide": True}}
    machine.finish(tmp_path / "one", **wide)
    machine.finish(tmp_path / "pair", processes=2, **wide)
    assert_equal_in_float64(tmp_path / "pair", tmp_path / "one")
    machine.finish(begin(machine, tmp_path / "moved", **wide), processes=2, **wide)
    assert_equal_in_float64(tmp_path / "moved", tmp_path / "one")


def test_hosts_with_other_configs_are_named_and_claim_nothing(machine, tmp_path):
    started = machine.start(tmp_path / "run", processes=2, different={"checkpoint.save_every_steps": 5})
    assert started.wait() == [1, 1]
    for process in started.processes:
        assert re.search(r"hosts of this run disagree.*config: process 1 \(host .*\) differs", process.text())
    assert not (tmp_path / "run").exists()
