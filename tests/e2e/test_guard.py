"""The guard in the real loop: with a stand-in for the stage whose losses and accuracies go wrong as planned."""

import json
import re
import time

import pytest

from semivit_jax.training import loop, rollback
from semivit_jax.training.rollback import Collapsed
from tests.e2e.planned import TOTAL, Trouble, good_steps, seen_positions

ROLLBACK = {"train.on_collapse": "rollback"}


def test_dropped_updates_are_counted_and_training_goes_on(run_semi, capsys):
    folder = run_semi(Trouble(not_finite=range(5, 7)))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    counts = {line["step"]: line["train/dropped_total"] for line in lines if "train/dropped_total" in line}
    assert [counts[step] for step in (5, 6, 7, 8)] == [0, 1, 2, 2]
    assert json.loads((folder / "report.json").read_text())["dropped_updates"] == 2
    assert seen_positions(folder) == [p for p in range(TOTAL) if p not in (5, 6)]
    assert {line["train/pseudo_label_acc"] for line in lines if "train/loss" in line} == {0}  # a mean of nothing
    said = capsys.readouterr().out
    assert re.search(r"mask_rate 8\d\.\d%", said)
    assert "pseudo_label_acc" not in said


@pytest.mark.parametrize(
    ("trouble", "story", "good"),
    [
        (Trouble(not_finite=range(9, TOTAL)), "not finite in 3 updates in a row, since step 10", 8),
        (Trouble(mask_rate_gone=range(9, TOTAL)), "mask_rate collapsed", 8),
        (Trouble(accuracy_gone=range(9, TOTAL)), "teacher's accuracy collapsed: 0.1000.*low since step 10", 8),
    ],
    ids=["not finite", "mask_rate", "accuracy"],
)
def test_it_stops_says_what_happened_and_overwrites_nothing(run_semi, tmp_path, trouble, story, good):
    with pytest.raises(Collapsed, match=f"{story}.*the last good checkpoint is step {good}.*nothing was overwritten"):
        run_semi(trouble)
    assert good in good_steps(tmp_path / "semi")
    assert not (tmp_path / "semi" / "DONE").exists()


@pytest.mark.parametrize(
    "trouble",
    [Trouble(not_finite=range(9, 12)), Trouble(mask_rate_gone=range(9, 13)), Trouble(accuracy_gone=range(9, 12))],
    ids=["not finite", "mask_rate", "accuracy"],
)
def test_a_rollback_skips_the_span_and_goes_on_from_before_it(run_semi, trouble, capsys):
    folder = run_semi(trouble, **ROLLBACK)
    assert capsys.readouterr().out.count("compiling the step") == 1  # the loop that goes on has it
    (entry,) = json.loads((folder / "rollbacks.json").read_text())
    assert entry["step"] == 8
    assert seen_positions(folder) == [*range(8), *range(entry["position"], entry["position"] + TOTAL - 8)]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [(line["step"], line["train/position"]) for line in lines if "train/position" in line]
    assert told == [(s, s if s <= 8 else s - 8 + entry["position"]) for s in range(1, TOTAL + 1)]


def test_a_run_that_ends_right_after_a_rollback_goes_on_behind_the_span(run_semi, monkeypatch, tmp_path):
    trouble = Trouble(not_finite=range(9, 12))
    whole = seen_positions(run_semi(trouble, tmp_path / "whole", **ROLLBACK))
    record = rollback.record

    def record_and_end(*args, **kwargs):
        record(*args, **kwargs)
        raise SystemExit("killed")

    monkeypatch.setattr(rollback, "record", record_and_end)
    with pytest.raises(SystemExit):
        run_semi(trouble, tmp_path / "ended", **ROLLBACK)
    monkeypatch.setattr(rollback, "record", record)
    assert seen_positions(run_semi(trouble, tmp_path / "ended", **ROLLBACK)) == whole
    found = json.loads((tmp_path / "ended" / "summary.json").read_text())["goodput"]
    assert found["starts"] == 2
    assert min(found["seconds"][part] for part in ("compiling", "training", "lost", "down")) > 0.0


def test_rollbacks_that_do_not_help_end(run_semi, tmp_path):
    with pytest.raises(Collapsed, match=r"not finite.*rolled back 2 times before"):
        run_semi(Trouble(not_finite=range(9, 60)), **ROLLBACK, **{"train.max_rollbacks": 2})
    assert good_steps(tmp_path / "semi") == [4, 8]


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(run_semi):
    with pytest.raises(Collapsed, match="no good checkpoint exists yet"):
        run_semi(Trouble(not_finite=range(0, 9)), **ROLLBACK)


def test_the_best_weights_are_kept_apart(run_semi):
    folder = run_semi(Trouble(accuracy_gone=range(0, 5)))
    assert [p.name for p in (folder / "best").iterdir()] == ["6"]
    assert json.loads((folder / "report.json").read_text())["best_acc1"] == pytest.approx(0.9)


def test_rates_are_those_of_training_alone(run_semi, monkeypatch):
    """Neither compilation nor evaluation, ten seconds for both trees by a clock put forward, slows what a line says."""
    evaluate, monotonic, late = loop.evaluate, time.monotonic, []
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + sum(late))
    monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: late.append(5.0) or evaluate(*args, **kwargs))
    folder = run_semi(Trouble(), **{"train.eval_every_epochs": 5 / 69})
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["perf/step_seconds"] for line in lines if "train/loss" in line]
    assert len(steps) == TOTAL
    assert max(steps) < 0.9
    evaluations = sum("val/acc1" in line for line in lines)
    assert lines[-1]["perf/seconds_evaluating"] > 10 * (evaluations - 1) > 20
    assert lines[-1]["perf/seconds_training"] < 0.9 * evaluations


def test_a_stage_that_keeps_nothing_says_so_and_ends_without_effect(run_semi, tmp_path, capsys):
    folder = run_semi(Trouble(mask_rate_gone=range(0, TOTAL)))
    said = capsys.readouterr().out
    assert json.loads((folder / "report.json").read_text())["health"] == "without effect"
    assert said.count("warning: semi: since warm-up no pseudo labels count (mask_rate 0.0 %); lower config.semi.") == 1
    end = "warning: semi: without effect, in the last epoch no pseudo labels count"
    assert said.count(end) == 2  # at the stage's end, and below the table
    assert said.rindex(end) > said.index("Semi-ViT, student")
    run_semi(Trouble(mask_rate_gone=range(0, TOTAL)))  # a finished run tells its result again
    assert end in capsys.readouterr().out


def test_classes_that_are_never_answered_are_told_after_warm_up_and_at_the_end(run_semi, capsys):
    folder = run_semi(Trouble(forgets=(3, 8)))
    said = capsys.readouterr().out
    told = r"warning: semi: the teacher hardly ever answers with 3 \(0 answers to \d+ images\), 8 \(0 answers to"
    assert len(re.findall(told, said)) == 3  # at the stage's end, and below the table
    assert said.index("hardly ever answers") < said.rindex("val_ema/acc1")
    assert "answers with 3" in " ".join(json.loads((folder / "report.json").read_text())["remarks"])


def test_with_all_classes_answered_nothing_is_told(run_semi, capsys):
    run_semi(Trouble())
    assert "hardly ever answers" not in capsys.readouterr().out
