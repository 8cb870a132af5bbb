"""Remember what a stage knows besides its state; write checkpoint facts and report.json."""

import dataclasses
import functools
import importlib.metadata
from typing import Any

from semivit_jax import config, console
from semivit_jax import plan as plan_lib
from semivit_jax.checkpoints import best, reading
from semivit_jax.files import Path, write_json
from semivit_jax.hosts import agreement
from semivit_jax.plan import Plan
from semivit_jax.recipes.keys import identity
from semivit_jax.stages import STAGES
from semivit_jax.training import compare, effect, guard, writers
from semivit_jax.training.setup import Run


@dataclasses.dataclass
class Progress:
    """What changes while a stage runs, besides the state; all of it travels in checkpoints."""

    history: guard.History
    window: writers.Window  # metrics since the last log line
    settled: writers.Window  # metrics of the first updates after warm-up
    last_epoch: writers.Window  # metrics of the final epoch
    seconds: float  # spent in this stage, over all starts
    spent: dict[str, float]  # of it, what its steps took: `goodput.of_steps`
    best_score: float  # of the evaluations so far
    evaluation: dict[str, float]  # of the latest evaluation
    forgotten: str = ""  # what the latest evaluation that asked tells of classes that are hardly ever answered


def fresh_progress(best_score: float) -> Progress:
    return Progress(guard.History(), writers.Window(), writers.Window(), writers.Window(), 0.0, {}, best_score, {})


def shown(stage: str) -> dict[str, str]:
    """Metric -> format of what a stage's progress line tells beside the loss and the speed."""
    spec = STAGES[stage]
    scores = (f"{prefix}/{spec.score}" for prefix in ("val", "val_ema"))
    return {**spec.shown, **{name: f"{name} {{:.1%}}" for name in scores}}


def best_key(stage: str) -> str:
    """Key of the best score in a checkpoint's facts and in the report."""
    return best.facts_key(stage)


def facts(run: Run, plan: Plan, step: int, position: int, progress: Progress) -> reading.Facts:
    """What a checkpoint's numbers belong to, and where everything but the state stood."""
    data = run.config.data
    return {
        "stage": plan.stage,
        "step": step,
        "position": position,
        "identity": identity(run.config),
        "config": config.to_dict(run.config),
        "plan": plan_lib.to_dict(plan),
        "class_names": list(run.task.class_names),
        "preprocessing": {
            "mean": list(data.mean),
            "std": list(data.std),
            "image_size": data.image_size,
            "crop_fraction": data.eval_crop_fraction,
            "interpolation": data.interpolation,
        },
        "split_hash": run.task.split_hash,
        "listing_hash": run.task.listing_hash,
        "versions": _versions(),
        "history": dataclasses.asdict(progress.history),
        "window": progress.window.state(),
        "settled": progress.settled.state(),
        "last_epoch": progress.last_epoch.state(),
        "seconds": progress.seconds,
        "spent": progress.spent,
        best_key(plan.stage): progress.best_score,
        "evaluation": progress.evaluation,
        "forgotten": progress.forgotten,
    }


@functools.cache  # a lookup reads the packages' files, and a save must not wait for that
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "semivit_jax")
    return {p: importlib.metadata.version(p) for p in packages}


def write_report(run: Run, plan: Plan, folder: Path, progress: Progress) -> None:
    """report.json of a finished stage: final scores, means over the last epoch, time."""
    section, means = run.config.stage(plan.stage), progress.last_epoch.means()
    score = STAGES[plan.stage].score or "acc1"
    verdict = guard.verdict(progress.history)
    report: dict[str, Any] = {
        "stage": plan.stage,
        "steps": plan.total_steps,
        "seconds": progress.seconds,
        best_key(plan.stage): progress.best_score,
        "dropped_updates": progress.history.dropped,
        f"published_{score}": getattr(section, f"published_{score}", 0.0),
        **progress.evaluation,
        **{f"last_epoch/{k}": v for k, v in means.items()},
    }
    if STAGES[plan.stage].health is not None:
        report["health"] = verdict

    def write() -> None:
        report["below"] = compare.below(run, plan, progress.evaluation)
        lines = (
            effect.line_at_the_end(plan.stage, section, verdict, means),
            progress.forgotten,
            compare.line(run, plan, progress.evaluation, report["below"]),
        )
        report["remarks"] = [line for line in lines if line]
        for line in report["remarks"]:
            console.say(f"warning: {line}")
        write_json(folder / "report.json", report)

    agreement.on_first_host(write)
