"""Compare the end of a stage with the probe on the starting weights and with the stages before it."""

from collections.abc import Mapping, Sequence

from semivit_jax.checkpoints import best
from semivit_jax.checkpoints.best import Best
from semivit_jax.files import read_json
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.training import head
from semivit_jax.training.setup import Run
from semivit_jax.words import counted

PROBE = "the probe on the starting weights"


def reached(score: str, evaluation: Mapping[str, float]) -> float:
    """What an evaluation counts as: the score of the moving average, where there is one."""
    return evaluation.get(f"val_ema/{score}", evaluation[f"val/{score}"])


def watched(key: str, evaluation: Mapping[str, float]) -> float:
    """What the guard watches of an evaluation: the score that a health names, and of skewed labels the balanced one.

    Accuracy alone stays high where a teacher comes to answer with the common classes.
    """
    prefix, _, score = key.partition("/")
    skewed = f"{prefix}/{score}_tail" in evaluation
    return evaluation[f"{prefix}/balanced_{score}" if skewed else key]


def below(run: Run, plan: Plan, evaluation: Mapping[str, float]) -> dict[str, float]:
    """What a stage has ended below, on the images that training evaluates on, with the scores of these.

    Args:
      run: of the stage; the stages before it have their reports.
      plan: of the stage.
      evaluation: its last one.
    """
    score, stages = STAGES[plan.stage].score, run.config.stages
    if not score:
        return {}
    probe = head.found_by_probe(run.workdir, stages)
    known = {PROBE: probe.linear_acc1} if probe is not None and score == head.GRADED[1] else {}
    for stage in stages[: stages.index(plan.stage)]:
        if STAGES[stage].score == score:
            known[stage] = reached(score, read_json(run.workdir / stage / "report.json"))
    return {name: share for name, share in known.items() if share > reached(score, evaluation)}


def line(run: Run, plan: Plan, evaluation: Mapping[str, float], better: Mapping[str, float]) -> str:
    """One line on a stage that has ended below others, and which weights are the best of the run; '' for any other."""
    if not better:
        return ""
    score, stages = STAGES[plan.stage].score, run.config.stages
    images = counted(len(run.task.eval), "validation image" if run.task.evaluates_on_validation else "evaluation image")
    others = " and ".join(f"{name} ({100 * share:.1f} %)" for name, share in better.items())
    kept = best.of_stages(run.workdir, stages[: stages.index(plan.stage) + 1])
    told = f"{plan.stage} ended with {100 * reached(score, evaluation):.1f} % on {images}, below {others}"
    if kept is not None:
        told += f"; predict and export take the best weights that were kept, {kept}, unless given --weights=latest"
    if kept is not None and kept.score < better.get(PROBE, 0.0):
        told += "; a head of the probe would have been kept with config.model.head_init='probe'"
    return told


def better_start(run: Run, before: Sequence[str]) -> Best | None:
    """The best weights of the stages before, where the last of them ended below others; None where it did not.

    None also where training evaluates on images that it must not choose by, those of a split for evaluation.
    """
    if not run.task.evaluates_on_validation:
        return None
    report = run.workdir / before[-1] / "report.json"
    below = read_json(report).get("below") if report.exists() else None
    return best.of_stages(run.workdir, before) if below else None
