"""Two real processes roll back together: they go on from the same step and the same batch, as one process does."""

import json

import pytest

from tests.e2e.planned import PLANNED, TOTAL, seen_positions
from tests.e2e.runs import assert_equal_in_float64, logged

SEMI_ALONE = {"stages": ("semi",), "train.on_collapse": "rollback"}


def entries(workdir):
    return json.loads((workdir / "semi" / "rollbacks.json").read_text())


@pytest.mark.slow
def test_with_real_gradients_two_processes_skip_what_one_skips(machine, tmp_path):
    """Labeled images that are NaN for three batches; in float64, so that the runs agree in all they hold."""
    changes, altered = SEMI_ALONE | {"train.max_nonfinite_in_a_row": 3}, {"wide": True, "spoiled": [9, 12]}
    for name, processes in (("one", 1), ("pair", 2)):
        said = machine.finish(tmp_path / name, processes=processes, changes=changes, altered=altered)
        assert "not finite in 3 updates in a row, since step 10" in said
        assert "going back to it and reading on from batch 12" in said
    assert entries(tmp_path / "pair") == entries(tmp_path / "one")
    assert_equal_in_float64(tmp_path / "pair", tmp_path / "one", stages=("semi",))


@pytest.mark.parametrize("trouble", ["mask_rate_gone", pytest.param("accuracy_gone", marks=pytest.mark.slow)])
def test_a_planted_collapse_is_left_behind_by_both(machine, tmp_path, trouble):
    pair = tmp_path / "pair"
    machine.finish(pair, processes=2, quick=PLANNED, changes=SEMI_ALONE, altered={"trouble": {trouble: [9, 13]}})
    (entry,) = entries(pair)
    assert entry["step"] == 8
    assert seen_positions(pair / "semi") == [*range(8), *range(entry["position"], entry["position"] + TOTAL - 8)]
    told = [(line["step"], line["train/position"]) for line in logged(pair)["semi metrics"] if "train/loss" in line]
    assert told == [(s, s if s <= 8 else s - 8 + entry["position"]) for s in range(1, TOTAL + 1)]


@pytest.mark.slow
def test_both_give_up_with_the_same_story(machine, tmp_path):
    started = machine.start(
        tmp_path / "run",
        processes=2,
        quick=PLANNED,
        changes=SEMI_ALONE | {"train.max_rollbacks": 1},
        altered={"trouble": {"not_finite": [9, 60]}},
    )
    assert started.wait() == [1, 1]
    for process in started.processes:
        assert "the last good checkpoint is step 8" in process.text()
        assert "rolled back 1 time before" in process.text()
