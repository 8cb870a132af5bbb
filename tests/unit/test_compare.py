"""What a stage ended below is told, with the weights that are better; tests/e2e/test_probe.py has it in a real run."""

import json
from types import SimpleNamespace

import pytest

from semivit_jax.checkpoints import best
from semivit_jax.files import Path, write_json
from semivit_jax.inference.trained import settled
from semivit_jax.training import compare
from tests.configs import small_config, small_plan

PROBED = {
    "linear_acc1": 0.525, "knn_acc1": 0.4, "num_fitted": 100, "num_graded": 200, "penalty": 0.01, "temperature": 1.2,
    "folds": 5, "is_head": True, "seconds": 3.0,
}  # fmt: skip
SCORES = {"finetune": 0.26, "semi": 0.3}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose probe reaches 52.5 %, fine-tuning 26 % and its best 52.5 %, that of the last stage 30 %."""
    folder = Path(tmp_path)
    kept = {"finetune": ("0", 0.525), "semi": ("7", 0.3)}
    for stage, score in SCORES.items():
        (folder / stage).mkdir()
        write_json(folder / stage / "report.json", {"val/acc1": 0.1, "val_ema/acc1": score})
    write_json(folder / "finetune" / "probe.json", PROBED)
    monkeypatch.setattr(best.reading, "newest_good", lambda path: path / kept[path.parent.name][0])
    monkeypatch.setattr(best.reading, "read_facts", lambda path: {"best_acc1": kept[path.parents[1].name][1]})
    task = SimpleNamespace(eval=range(200), evaluates_on_validation=True)
    return SimpleNamespace(config=small_config(stages=("finetune", "semi")), workdir=folder, task=task)


def compared(run, stage, **evaluation):
    values = {name.replace("_acc1", "/acc1"): value for name, value in evaluation.items()}
    below = compare.below(run, small_plan(stage), values)
    return below, compare.line(run, small_plan(stage), values, below)


def test_below_probe_and_stage_before_it_names_both_and_the_better_weights(run):
    below, line = compared(run, "semi", val_acc1=0.9, val_ema_acc1=0.25)
    assert below == {compare.PROBE: 0.525, "finetune": 0.26}
    assert line == (
        "semi ended with 25.0 % on 200 validation images, below the probe on the starting weights (52.5 %) and "
        "finetune (26.0 %); predict and export take the best weights that were kept, step 0 of finetune (52.5 %), "
        "unless given --weights=latest"
    )


@pytest.mark.parametrize("score", [0.525, 0.8])
def test_as_good_as_both_is_no_matter(run, score):
    assert compared(run, "semi", val_acc1=0.1, val_ema_acc1=score) == ({}, "")


def test_the_first_stage_is_compared_with_the_probe_alone(run):
    assert compared(run, "finetune", val_acc1=0.5)[0] == {compare.PROBE: 0.525}
    (run.workdir / "finetune" / "probe.json").unlink()
    assert compared(run, "finetune", val_acc1=0.0) == ({}, "")


def test_a_probe_that_was_not_kept_is_told_with_the_key(run, monkeypatch):
    monkeypatch.setattr(best.reading, "read_facts", lambda path: {"best_acc1": 0.3})
    line = compared(run, "finetune", val_acc1=0.26)[1]
    assert line.endswith("; a head of the probe would have been kept with config.model.head_init='probe'")


def test_the_best_of_equal_stages_is_the_latest(run, monkeypatch):
    assert best.of_stages(run.workdir, ("mae", "finetune", "semi")).stage == "finetune"
    assert best.of_stages(run.workdir, ("finetune",)).checkpoint.name == "0"
    monkeypatch.setattr(best.reading, "read_facts", lambda path: {"best_acc1": 0.3})
    assert best.of_stages(run.workdir, ("mae", "finetune", "semi")).stage == "semi"
    monkeypatch.setattr(best.reading, "newest_good", lambda path: None)
    assert best.of_stages(run.workdir, ("finetune", "semi")) is None


def test_the_next_stage_starts_from_better_weights_that_validation_images_chose(run):
    report = run.workdir / "finetune" / "report.json"
    assert compare.better_start(run, ("finetune",)) is None
    report.write_text(json.dumps({"below": {compare.PROBE: 0.525}}))
    assert str(compare.better_start(run, ("finetune",))) == "step 0 of finetune (52.5 %)"
    run.task.evaluates_on_validation = False  # those of a split for evaluation choose nothing
    assert compare.better_start(run, ("finetune",)) is None


def test_weights_that_ended_below_better_ones_are_taken_on_request_alone(run, monkeypatch):
    monkeypatch.setattr("semivit_jax.inference.trained.workdir.latest_stage", lambda folder: "semi")
    folder, report = run.workdir, run.workdir / "semi" / "report.json"
    (folder / "config.json").write_text("{}")
    assert settled(folder, kept="auto", stage=None) == ("latest", "")  # of an earlier version, or not below
    report.write_text(json.dumps({"below": {"finetune": 0.26}}))
    ended = f"warning: the latest weights of {folder} ended below finetune (26.0 %)"
    assert settled(folder, kept="auto", stage=None) == (
        "best",
        f"{ended}; taken are the best, step 0 of finetune (52.5 %); --weights=latest takes the latest all the same",
    )
    assert settled(folder, kept="latest", stage=None) == (
        "latest",
        f"{ended}; --weights=best takes the best, step 0 of finetune (52.5 %)",
    )
    assert settled(folder, kept="auto", stage="semi") == ("latest", "")
    assert settled(folder, kept="best", stage=None) == ("best", "")
    monkeypatch.setattr(best.reading, "newest_good", lambda path: None)  # somebody has removed them
    assert settled(folder, kept="auto", stage=None) == ("latest", "")


def test_the_guard_watches_the_balanced_score_where_labels_are_skewed():
    even = {"val_ema/acc1": 0.8, "val_ema/balanced_acc1": 0.7, "val/acc1_tail": 0.1}
    assert compare.watched("val_ema/acc1", even) == 0.8
    assert compare.watched("val_ema/acc1", even | {"val_ema/acc1_tail": 0.2}) == 0.7
