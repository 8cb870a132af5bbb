"""Say at the start how unequally the labeled images are spread over the classes, and which key helps rare ones."""

from collections.abc import Sequence

from semivit_jax.config import Config
from semivit_jax.stages.rules import written
from semivit_jax.stages.supervised import SupervisedConfig
from semivit_jax.words import counted, printable

SKEWED = 5.0  # times as many labeled images in the largest class as in the smallest


def line(config: Config, class_names: Sequence[str], labeled: Sequence[int]) -> str:
    """One line for people; '' where the labels are about even, or no stage has labels.

    Args:
      config: of the run.
      class_names: in order.
      labeled: labeled images of each class; a class without any is told elsewhere.
    """
    sections = {stage: config.stage(stage) for stage in config.stages}
    supervised = {stage: s for stage, s in sections.items() if isinstance(s, SupervisedConfig)}
    present = [(count, name) for count, name in zip(labeled, class_names, strict=True) if count]
    if not supervised or not present:
        return ""
    (most, largest), (least, smallest) = max(present), min(present)
    if most < SKEWED * least:
        return ""
    plain = [
        stage for stage, section in supervised.items() if section.labeled_loss == "plain" and not _adjusts(section)
    ]
    keys = " and ".join(f"config.{stage}.labeled_loss = 'logit_adjusted'" for stage in plain)
    advice = f"{keys} would help rare classes" if keys else "the labeled loss allows for it"
    return (
        f"the labels are skewed: {printable(largest)} has {counted(most, 'labeled image')}, {printable(smallest)} "
        f"{least}, {most / least:.0f} times fewer; {advice}. Look at balanced_acc1 and acc1_tail, not at acc1 alone"
    )


def _adjusts(section: SupervisedConfig) -> bool:
    """Whether a rule allows for the classes' shares, beside which another labeled loss is refused."""
    rule = getattr(section, "pseudo_label_rule", "")  # '' where the stage has none
    return bool(rule) and written.adjusts_labeled(rule)
