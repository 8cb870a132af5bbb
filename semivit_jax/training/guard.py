"""Watch for dropped updates, and for a collapse of the stage's health.

Pure functions on a small JSON-ready history, which travels in every checkpoint.
"""

import dataclasses
import math

from semivit_jax.config import TrainConfig
from semivit_jax.stages.spec import Health
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class Complaint:
    """Why training cannot go on: what happened and since when, and the last step whose weights are healthy."""

    text: str
    healthy_until: int


@dataclasses.dataclass(frozen=True)
class History:
    """What the guard remembers.

    Attributes:
      dropped: updates dropped so far.
      most_kept: largest value so far, of one update, of what `Health.step` names; -1 before the first.
      dropped_in_a_row: of them, up to now without an interruption.
      first_dropped_step: start of the present row, -1 when there is none.
      mask_rates: what `Health.step` names, of the last steps, at most the window's length.
      best_mask_rate: best windowed mean so far.
      best_teacher_acc1: best so far of what `Health.evaluation` names.
      low_evaluations: evaluations in a row below the best one's share.
      low_since_step: step of the first of them, -1 when there is none.
      healthy_evaluation_step: step of the last evaluation that was not low, 0 before the first.
    """

    dropped: int = 0
    most_kept: float = -1.0
    dropped_in_a_row: int = 0
    first_dropped_step: int = -1
    mask_rates: tuple[float, ...] = ()
    best_mask_rate: float = 0.0
    best_teacher_acc1: float = 0.0
    low_evaluations: int = 0
    low_since_step: int = -1
    healthy_evaluation_step: int = 0


def highest_plausible_share(share: float, images: int) -> float:
    """Upper end of Wilson's interval for a share of so many images, at three standard deviations (99.7 %)."""
    z2 = 9.0 / images
    return (share + z2 / 2 + math.sqrt(z2 * share * (1 - share) + z2 * z2 / 4)) / (1 + z2)


def load(stored: dict) -> History:
    """History from a checkpoint's facts."""
    return History(**{**stored, "mask_rates": tuple(stored["mask_rates"])})


def after_step(
    history: History,
    *,
    step: int,
    dropped: bool,
    rate: float | None,
    health: Health | None,
    armed: bool,
    config: TrainConfig,
) -> tuple[History, Complaint | None]:
    """Takes in one update; returns (history, complaint or None).

    Args:
      history: before the update.
      step: number of the update.
      dropped: whether its loss or gradient was not finite.
      rate: of this update, what the stage's health names.
      health: of the stage; None watches dropped updates alone, and there is no rate.
      armed: whether warm-up is over; before, confidences are still low by nature.
      config: limits.
    """
    if dropped:
        first = history.first_dropped_step if history.dropped_in_a_row else step
        history = dataclasses.replace(
            history,
            dropped=history.dropped + 1,
            dropped_in_a_row=history.dropped_in_a_row + 1,
            first_dropped_step=first,
        )
        if history.dropped_in_a_row >= config.max_nonfinite_in_a_row:
            row = f"{counted(history.dropped_in_a_row, 'update')} in a row, since step {first}"
            # Dropped updates left the weights as they were.
            limit = f"(config.train.max_nonfinite_in_a_row = {config.max_nonfinite_in_a_row})"
            return history, Complaint(f"loss or gradient was not finite in {row} {limit}", healthy_until=step)
        return history, None
    history = dataclasses.replace(history, dropped_in_a_row=0, first_dropped_step=-1)
    if rate is None or health is None:
        return history, None
    history = dataclasses.replace(history, most_kept=max(history.most_kept, rate))
    if not armed:
        return history, None
    window = (*history.mask_rates, rate)[-config.collapse_window_steps :]
    history = dataclasses.replace(history, mask_rates=window)
    if len(window) < config.collapse_window_steps:
        return history, None
    mean = sum(window) / len(window)
    history = dataclasses.replace(history, best_mask_rate=max(history.best_mask_rate, mean))
    if mean < config.collapse_mask_rate_share * history.best_mask_rate:
        since = step - len(window)
        return history, Complaint(
            f"{health.step} collapsed: its mean over the last {len(window)} steps is {mean:.4f}, "
            f"its best was {history.best_mask_rate:.4f}; it fell since about step {since} "
            f"(config.train.collapse_mask_rate_share = {config.collapse_mask_rate_share})",
            healthy_until=since,
        )
    return history, None


WITHOUT_EFFECT, HEALTHY = "without effect", "healthy"


def verdict(history: History) -> str:
    """What becomes of a stage that ended without a complaint; one that never kept anything did nothing, in health."""
    return WITHOUT_EFFECT if history.most_kept == 0 else HEALTHY


def after_evaluation(
    history: History, *, step: int, score: float, images: int, health: Health, armed: bool, config: TrainConfig
) -> tuple[History, Complaint | None]:
    """Takes in what the stage's health names of an evaluation; returns (history, complaint or None).

    A score counts as low where chance does not explain it: of few images, half the best score says nothing.

    Args:
      history: before the evaluation.
      step: that was evaluated.
      score: a share of the images, or about as uncertain as one.
      images: that it is of.
      health: of the stage.
      armed: see `after_step`.
      config: limits.
    """
    if not armed:
        return history, None
    best = max(history.best_teacher_acc1, score)
    low = highest_plausible_share(score, images) < config.collapse_accuracy_share * best
    history = dataclasses.replace(
        history,
        best_teacher_acc1=best,
        low_evaluations=history.low_evaluations + 1 if low else 0,
        low_since_step=(history.low_since_step if history.low_evaluations else step) if low else -1,
        healthy_evaluation_step=history.healthy_evaluation_step if low else step,
    )
    if history.low_evaluations >= 2:
        return history, Complaint(
            f"{health.told} collapsed: {score:.4f}, its best was {best:.4f}; low since step {history.low_since_step} "
            f"(config.train.collapse_accuracy_share = {config.collapse_accuracy_share})",
            healthy_until=history.healthy_evaluation_step,
        )
    return history, None
