"""Tell of a stage in which nothing is kept, or everything: what its health watches then decides nothing."""

from collections.abc import Mapping

from semivit_jax import console
from semivit_jax.config import Config, StageConfig
from semivit_jax.ops.metrics import Mean
from semivit_jax.plan import Plan
from semivit_jax.stages import STAGES
from semivit_jax.stages.spec import Health
from semivit_jax.training import guard, writers

NOTHING, EVERYTHING = 0.001, 0.999  # mean shares: one image more or less in a thousand decides nothing


def after_update(config: Config, plan: Plan, settled: writers.Window, step: int, found: Mapping[str, Mean]) -> None:
    """Takes in one update, and says once what became of those that followed the warm-up, if that is to be told.

    Once is after an epoch of them, or after the guard's window where that is shorter.

    Args:
      config: of the run.
      plan: of the stage.
      settled: metrics of the updates after warm-up, which travels in checkpoints.
      step: number of the update.
      found: its metrics.
    """
    health, section = STAGES[plan.stage].health, config.stage(plan.stage)
    first = int(plan.updates(section.warmup_epochs))
    last = first + min(plan.steps_per_epoch, config.train.collapse_window_steps)
    if health is None or not first < step <= last:
        return
    settled.add(found)
    if step == last and (line := told(plan.stage, section, health, settled.means())):
        console.say(f"warning: {plan.stage}: since warm-up {line}")


def line_at_the_end(stage: str, section: StageConfig, verdict: str, means: Mapping[str, float]) -> str:
    """What is to be told of a stage that ended; '' where some was kept and some was not.

    Args:
      stage: its name.
      section: its keys.
      verdict: the guard's.
      means: of its last epoch.
    """
    health = STAGES[stage].health
    line = told(stage, section, health, means) if health is not None else ""
    if not line:
        return ""
    return f"{stage}: {f'{verdict}, ' if verdict == guard.WITHOUT_EFFECT else ''}in the last epoch {line}"


def told(stage: str, section: StageConfig, health: Health, means: Mapping[str, float]) -> str:
    """One line on a share of none or of all, and what to change; '' for any other share.

    Args:
      stage: its name.
      section: its keys.
      health: says which share is meant.
      means: of the metrics of some updates; without the share where all of them were dropped.
    """
    share = means.get(health.step)
    if not health.kept or share is None or NOTHING < share < EVERYTHING:
        return ""
    few, key = share <= NOTHING, health.key(section)
    if not few and not key:
        return ""  # what weighs by degrees may keep everything
    quantiles = ", ".join(f"{means[name]:.2f}" for name in health.quantiles if name in means)
    decided = f", confidences {quantiles} at the 10th, 50th and 90th percentile" if quantiles else ""
    amount = "no" if not share else "hardly any" if few else "all"
    advice = "start from weights that are surer"
    if key:
        at = f"config.{stage}.{key}, now {getattr(section, key):g}"
        advice = f"lower {at}, or {advice}" if few else f"wrong ones are not left out: raise {at}, if there are any"
    return f"{amount} {health.kept} count ({health.step} {100 * share:.1f} %{decided}); {advice}"
