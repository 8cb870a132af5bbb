"""Tell of classes that the average of a stage hardly ever answers with: pseudo labels may have left them out."""

from collections.abc import Sequence

import numpy as np

from semivit_jax.config import StageConfig, TrainConfig
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.scores import CLASS_ANSWERS
from semivit_jax.plan import Plan
from semivit_jax.stages.spec import Health
from semivit_jax.training.guard import highest_plausible_share
from semivit_jax.words import counted, printable

MOST_NAMED = 5


def is_due(plan: Plan, section: StageConfig, step: int) -> bool:
    """Whether an evaluation is one to tell of: the first one after warm-up, and the last."""
    warm = plan.updates(section.warmup_epochs)
    return step == plan.total_steps or step > warm >= step - plan.eval_every_steps


def line(
    stage: str, section: StageConfig, health: Health, class_names: Sequence[str], sums: Metrics, config: TrainConfig
) -> str:
    """One line that names the classes, and the key that evens them out; '' where there are none.

    A class is one where its answers are fewer than `collapse_accuracy_share` of its images, and chance does not explain
    that: of 9 images none may be answered so by chance, of 10 not. A class that is taken for another while others are
    taken for it is a hard one, and not told.

    Args:
      stage: its name.
      section: its keys.
      health: says which key helps, if any.
      class_names: in order.
      sums: of the evaluation of the average; without the count of its answers by class there is nothing to tell.
      config: limits.
    """
    advice = health.evened_by(section)
    if CLASS_ANSWERS not in sums or not advice:
        return ""
    answers, images = (np.rint(np.asarray(part)) for part in sums[CLASS_ANSWERS])
    few = [
        f"{printable(name)} ({counted(int(a), 'answer')} to {counted(int(n), 'image')})"
        for name, a, n in zip(class_names, answers, images, strict=True)
        if a < n and highest_plausible_share(a / n, int(n)) < config.collapse_accuracy_share
    ]
    if not few:
        return ""
    more = f" and {len(few) - MOST_NAMED} more classes" if len(few) > MOST_NAMED else ""
    named = ", ".join(few[:MOST_NAMED])
    return f"{stage}: the teacher hardly ever answers with {named}{more}; {advice}"
