"""What a stage remembers besides its state, and what it writes about itself: checkpoint facts and report."""

import dataclasses
import functools
import importlib.metadata

from semivit_jax import config
from semivit_jax import plan as plan_lib
from semivit_jax.checkpoints import reading
from semivit_jax.config import FinetuneConfig
from semivit_jax.files import Path, write_json
from semivit_jax.hosts import agreement
from semivit_jax.plan import Plan
from semivit_jax.recipes.keys import identity
from semivit_jax.training import guard, writers
from semivit_jax.training.setup import Run


@dataclasses.dataclass
class Progress:
    """What changes while a stage runs, besides the state; all of it travels in checkpoints."""

    history: guard.History
    window: writers.Window  # metrics since the last log line
    last_epoch: writers.Window  # metrics of the final epoch
    seconds: float  # spent in this stage, over all starts
    best_acc1: float
    evaluation: dict[str, float]  # of the latest evaluation


def fresh_progress(best_acc1: float) -> Progress:
    return Progress(guard.History(), writers.Window(), writers.Window(), 0.0, best_acc1, {})


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
        "last_epoch": progress.last_epoch.state(),
        "seconds": progress.seconds,
        "best_acc1": progress.best_acc1,
        "evaluation": progress.evaluation,
    }


@functools.cache  # a lookup reads the packages' files, and a save must not wait for that
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "semivit_jax")
    return {p: importlib.metadata.version(p) for p in packages}


def write_report(run: Run, plan: Plan, folder: Path, progress: Progress) -> None:
    """report.json of a finished stage: final accuracy, means over the last epoch, time."""
    section, means = run.config.stage(plan.stage), progress.last_epoch.means()
    report = {
        "stage": plan.stage,
        "steps": plan.total_steps,
        "seconds": progress.seconds,
        "best_acc1": progress.best_acc1,
        "dropped_updates": progress.history.dropped,
        "published_acc1": section.published_acc1 if isinstance(section, FinetuneConfig) else 0.0,
        **progress.evaluation,
        **{f"last_epoch/{k}": v for k, v in means.items()},
    }
    agreement.on_first_host(lambda: write_json(folder / "report.json", report))
