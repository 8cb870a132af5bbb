"""Keys of stage 3: what of them is illegal together, and the pseudo-label rule that they name."""

import dataclasses
from typing import Annotated

import numpy as np

from semivit_jax.config import AT_LEAST_ONE, NOT_NEGATIVE, SHARE, ConfigError
from semivit_jax.plan import Plan
from semivit_jax.stages import supervised
from semivit_jax.stages.pseudo_label import Known, PseudoLabelRule, RuleConfig
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS
from semivit_jax.stages.rules import OUTLIERS, written
from semivit_jax.stages.supervised import SupervisedConfig


@dataclasses.dataclass(frozen=True)
class SemiConfig(SupervisedConfig):
    """Stage 3, semi-supervised fine-tuning (Cai et al. 2022)."""

    unlabeled_ratio: Annotated[int, AT_LEAST_ONE]  # unlabeled images per labeled one (mu)
    # Of the unlabeled images' loss beside the labeled images' (lambda_u).
    unlabeled_weight: Annotated[float, NOT_NEGATIVE]
    # Whose answers become pseudo labels: the moving average, or the student itself.
    teacher: Annotated[str, ("ema", "student")]
    # Which pseudo labels count: a rule, or one with others around it, as in aligned(free); docs/rules.md.
    pseudo_label_rule: str
    # What is done about images of no class among the unlabeled ones: those that are likely such have little weight.
    outliers: Annotated[str, OUTLIERS]
    bank: str  # file of `semivit bank`, whose predictions the rule 'bank' takes; '' with every other rule
    # Smallest probability of a pseudo label that counts (tau); of flex and relative what theirs are shares of.
    confidence_threshold: Annotated[float, SHARE]
    rule: RuleConfig  # the rules' numbers
    pseudo_mixup: Annotated[str, PSEUDO_MIXUPS]  # how unlabeled images mix: a row of PSEUDO_MIXUPS


def check(section: SemiConfig) -> None:
    """Raises ConfigError where supervised keys do not fit, pseudo mixup cannot be drawn, or there would be no EMA.

    Also where there is no such pseudo-label rule, its thresholds have no room, or it and a bank do not come together.
    """
    supervised.check(section, "semi")
    written.names(section.pseudo_label_rule)
    if section.rule.lowest > section.rule.highest:
        raise ConfigError(f"config.semi.rule.lowest is {section.rule.lowest}, above highest {section.rule.highest}")
    if bool(section.bank) != ("bank" in needs_of(section)):
        raise ConfigError(
            f"config.semi.pseudo_label_rule is {section.pseudo_label_rule!r} and config.semi.bank {section.bank!r}: "
            "the rule 'bank' needs a file of `semivit bank`, and every other rule none"
        )
    if section.outliers != "none" and "teacher" not in needs_of(section):
        raise ConfigError(
            f"config.semi.outliers is {section.outliers!r} and the rule {section.pseudo_label_rule!r} asks no teacher, "
            "whose logits tell an outlier; use outliers='none'"
        )
    kind = PSEUDO_MIXUPS[section.pseudo_mixup]
    if kind is not None and kind.uses_alphas and section.mixup_alpha <= 0 and section.cutmix_alpha <= 0:
        raise ConfigError(
            f"config.semi.pseudo_mixup is {section.pseudo_mixup!r}: mixup_alpha or cutmix_alpha must be above 0"
        )
    if written.is_penalised(section.pseudo_label_rule, section.rule):
        _check_penalty(section)
    if section.ema_decay == 0:
        raise ConfigError("config.semi.ema_decay is 0; the semi-supervised stage always tracks an EMA")


def _check_penalty(section: SemiConfig) -> None:
    """The rule judges what the student says of the images themselves, and of all of an update at once."""
    asked = f"config.semi.rule.fairness is {section.rule.fairness:g}"
    if section.pseudo_mixup != "none":
        raise ConfigError(
            f"{asked} and config.semi.pseudo_mixup {section.pseudo_mixup!r}: the fairness term is of unmixed images; "
            "use pseudo_mixup='none'"
        )


def needs_of(section: SemiConfig) -> frozenset[str]:
    """What the pseudo-label rule needs to be told of an update."""
    return written.needs_of(section.pseudo_label_rule, section.outliers, section.rule)


def make_rule(section: SemiConfig, plan: Plan) -> PseudoLabelRule:
    """The rule that config.semi names.

    Raises:
      ConfigError: it has a penalty that the plan's updates do not fit.
    """
    make = written.maker(section.pseudo_label_rule, section.outliers)
    if written.is_penalised(section.pseudo_label_rule, section.rule):
        _check_penalty_fits(section.rule, plan)
    return written.forgetting(make(section.confidence_threshold, section.rule, known(plan)))


def _check_penalty_fits(keys: RuleConfig, plan: Plan) -> None:
    """Raises ConfigError where an update comes in parts, or could never keep as many images as the penalty asks for."""
    asked, images = f"config.semi.rule.fairness is {keys.fairness:g}", plan.batch_size * plan.unlabeled_ratio
    if plan.accum > 1:
        raise ConfigError(
            f"{asked} and an update has {plan.accum} micro-steps: the fairness term is of all its images at once; "
            "use semi.accum=1, and more devices or train.max_images_per_device=0 where memory asks for more"
        )
    if images < keys.fairness_images * plan.num_classes:
        raise ConfigError(
            f"{asked}: it asks for {keys.fairness_images:g} kept images of each of {plan.num_classes} classes in an "
            f"update, which has {images} unlabeled ones; raise semi.batch_size, or lower semi.rule.fairness_images"
        )


def known(plan: Plan) -> Known:
    """What the rule may take as given."""
    per_class = np.asarray(plan.counts.per_class)
    return Known(plan.num_classes, plan.counts.unlabeled, plan.steps_per_epoch, per_class / per_class.sum())


def is_plain(section: SemiConfig) -> bool:
    """Whether the rule is the paper's, with nothing around it."""
    return section.pseudo_label_rule == "fixed" and section.outliers == "none"


def deciding_key(section: SemiConfig) -> str:
    """The key whose value decides what the rule keeps; '' where none does."""
    return "confidence_threshold" if written.is_by_threshold(section.pseudo_label_rule) else ""
