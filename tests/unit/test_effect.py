"""A stage that keeps nothing, or everything, is told once after warm-up and at its end; any other is not."""

import dataclasses
import json

import numpy as np
import pytest

from semivit_jax.ops.metrics import Mean
from semivit_jax.stages import STAGES
from semivit_jax.training import effect, guard, writers
from tests.configs import small_config, small_plan

CONFIG = small_config(**{"semi.warmup_epochs": 0.5, "semi.confidence_threshold": 0.8, "train.collapse_window_steps": 4})
PLAN = small_plan("semi")  # ten updates an epoch: warm-up ends after five of them
TOLD_AT = 9  # the window of the guard later


def found(share, quantiles=(0.11, 0.2, 0.3)):
    numbers = zip(STAGES["semi"].health.quantiles, quantiles, strict=True)
    return {"mask_rate": Mean(np.array([share]), 1.0), **{name: Mean(np.array([q]), 1.0) for name, q in numbers}}


def said(shares, capsys, *, plan=PLAN, first=1, settled=None):
    """{step: line} over updates with these shares kept."""
    lines, settled = {}, settled or writers.Window()
    for step, share in enumerate(shares, first):
        effect.after_update(CONFIG, plan, settled, step, found(share))
        if line := capsys.readouterr().out.strip():
            lines[step] = line
    return lines


def test_nothing_kept_is_told_once_after_warm_up_with_what_to_change(capsys):
    assert said([0.0] * 20, capsys) == {
        TOLD_AT: "warning: semi: since warm-up no pseudo labels count (mask_rate 0.0 %, confidences 0.11, 0.20, 0.30 "
        "at the 10th, 50th and 90th percentile); lower config.semi.confidence_threshold, now 0.8, or start from "
        "weights that are surer"
    }


def test_all_kept_is_told_with_the_other_direction(capsys):
    (line,) = said([0.3] * 5 + [1.0] * 15, capsys).values()
    assert "since warm-up all pseudo labels count (mask_rate 100.0 %" in line
    assert line.endswith(
        "wrong ones are not left out: raise config.semi.confidence_threshold, now 0.8, if there are any"
    )


def test_a_key_is_named_where_it_decides():
    """FreeMatch finds its own threshold, and soft labels all count."""
    health, quantiles = STAGES["semi"].health, dict.fromkeys(STAGES["semi"].health.quantiles, 0.2)
    for rule, named in {"fixed": True, "aligned(flex)": True, "free": False, "tempered(soft)": False}.items():
        section = small_config(**{"semi.pseudo_label_rule": rule}).stage("semi")
        lines = [effect.told("semi", section, health, {"mask_rate": share, **quantiles}) for share in (0.0, 1.0)]
        assert ["confidence_threshold" in line for line in lines] == [named, named]
        assert lines[0].endswith("start from weights that are surer")
        assert bool(lines[1]) == named


@pytest.mark.parametrize("shares", [[0.0] * 5 + [0.01] * 15, [1.0] * 5 + [0.99] * 15, [0.0, 0.5] * 10])
def test_some_kept_is_no_matter(shares, capsys):
    assert not said(shares, capsys)


def test_warm_up_does_not_count(capsys):
    """Confidences are low by nature then."""
    assert list(said([0.9] * 5 + [0.0] * 15, capsys)) == [TOLD_AT]


def test_a_stretched_warm_up_ends_later(capsys):
    assert list(said([0.0] * 30, capsys, plan=dataclasses.replace(PLAN, stretch=2.0))) == [TOLD_AT + 5]


def test_a_restart_in_between_tells_the_same(capsys):
    """The window travels in checkpoints; the shares before it would not have been told."""
    settled = writers.Window()
    assert not said([0.0] * 7, capsys, settled=settled)
    restored = writers.Window(json.loads(json.dumps(settled.state())))
    assert not said([1.0] * 5, capsys, first=8, settled=restored)
    restored = writers.Window(json.loads(json.dumps(settled.state())))
    assert list(said([0.0] * 5, capsys, first=8, settled=settled)) == [TOLD_AT]


def test_a_stage_without_health_says_nothing(capsys):
    for step in range(20):
        effect.after_update(CONFIG, small_plan("finetune"), writers.Window(), step, {})
    assert not effect.line_at_the_end("finetune", CONFIG.stage("finetune"), guard.HEALTHY, {})
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("verdict", "share", "begins"),
    [
        (guard.WITHOUT_EFFECT, 0.0, "semi: without effect, in the last epoch no pseudo labels count"),
        (guard.HEALTHY, 0.0005, "semi: in the last epoch hardly any pseudo labels count (mask_rate 0.1 %"),
        (guard.HEALTHY, 1.0, "semi: in the last epoch all pseudo labels count"),
        (guard.HEALTHY, 0.3, ""),
    ],
)
def test_the_end_has_a_line_with_the_verdict(verdict, share, begins):
    means = {"mask_rate": share, "confidence_q10": 0.1, "confidence_q50": 0.2, "confidence_q90": 0.3}
    line = effect.line_at_the_end("semi", CONFIG.stage("semi"), verdict, means)
    assert line.startswith(begins)
    assert bool(line) == bool(begins)
