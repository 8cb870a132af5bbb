"""Two real processes, other numbers of devices, and hosts that disagree."""

import json
import re
import shutil
import signal
import sys

import pytest

from semivit_jax.checkpoints.reading import newest_good
from semivit_jax.main import main
from tests.e2e.conftest import stop, without_semi
from tests.e2e.runs import assert_close_run, assert_equal_in_float64

pytestmark = pytest.mark.xdist_group("runs")


def test_two_processes_agree_with_one(untouched_pair, untouched):
    assert_close_run(untouched_pair, untouched, rtol=1e-5)


@pytest.mark.parametrize("of", ["run", pytest.param("checkpoint", marks=pytest.mark.slow)])
def test_two_processes_grade_weights_together(machine, untouched, tmp_path, monkeypatch, of):
    """What they need to know before they may meet is read without touching a device."""
    source = untouched if of == "run" else newest_good(untouched / "semi" / "checkpoints")
    command = ["eval", f"--workdir={source}", "--out"]
    started = machine.start_commands([[sys.executable, "-m", "semivit_jax.main", *command, str(tmp_path / "two")]] * 2)
    assert set(started.wait()) == {0}, started.output()
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    assert main(["semivit", *command, str(tmp_path / "one")]) == 0
    one, two = (json.loads((tmp_path / name).read_text())["results"] for name in ("one", "two"))
    for tree, found in one.items():
        assert two[tree]["num_images"] == found["num_images"] == 360
        assert two[tree]["loss"] == pytest.approx(found["loss"], rel=1e-5)


def begin(machine, workdir, **options):
    """Begins a run on 4 devices, goes on with 8, and stops it in its last stage."""
    assert stop(machine.start(workdir, devices=4, **options), signal.SIGTERM, at="mae: step") == [75]
    assert stop(machine.start(workdir, devices=8, **options), signal.SIGTERM, at="semi: step") == [75]
    return workdir


@pytest.fixture(scope="module")
def begun(machine, untouched, tmp_path_factory):
    """A run whose last stage began on 8 devices, behind stages on one."""
    workdir = without_semi(untouched, tmp_path_factory.mktemp("runs") / "begun")
    assert stop(machine.start(workdir, devices=8), signal.SIGTERM, at="semi: step") == [75]
    return workdir


@pytest.mark.parametrize(
    ("processes", "devices"),
    [
        pytest.param(1, 4, id="8 to 4 devices"),
        pytest.param(2, 1, id="1 to 2 processes", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_elsewhere(machine, begun, untouched, tmp_path, processes, devices):
    workdir = shutil.copytree(begun, tmp_path / "run")
    said = machine.finish(workdir, processes=processes, devices=devices)
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
