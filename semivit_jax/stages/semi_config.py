"""Define the keys of the semi-supervised stage, and what follows from them: its images, its rule, its health."""

import dataclasses
from typing import Annotated

import numpy as np

from semivit_jax.config import AT_LEAST_ONE, NOT_NEGATIVE, SHARE, ConfigError
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import supervised
from semivit_jax.stages.pseudo_label import Known, PseudoLabelRule, RuleConfig
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS
from semivit_jax.stages.rules import written
from semivit_jax.stages.spec import Health
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
    kind = PSEUDO_MIXUPS[section.pseudo_mixup]
    if kind is not None and kind.uses_alphas and section.mixup_alpha <= 0 and section.cutmix_alpha <= 0:
        raise ConfigError(
            f"config.semi.pseudo_mixup is {section.pseudo_mixup!r}: mixup_alpha or cutmix_alpha must be above 0"
        )
    if section.ema_decay == 0:
        raise ConfigError("config.semi.ema_decay is 0; the semi-supervised stage always tracks an EMA")


def needs_of(section: SemiConfig) -> frozenset[str]:
    """What the pseudo-label rule needs to be told of an update."""
    return written.needs_of(section.pseudo_label_rule, section.rule)


def streams(section: SemiConfig) -> tuple[Stream, Stream]:
    """Labeled and unlabeled images, with what the pseudo-label rule needs of them."""
    needs = needs_of(section)
    weak, own, strong = ("weak", "weak"), ("image", "labeled"), ("strong", "strong")
    labeled = Stream(
        name="labeled",
        images="labeled",
        views=(own, weak) if "labeled" in needs else (own,),
        sets_epoch=False,
        balanced=section.balanced_order,
    )
    unlabeled = Stream(
        name="unlabeled",
        images="unlabeled",
        views=(weak, strong) if "teacher" in needs else (strong,),
        per_row=section.unlabeled_ratio,
        ratio_key="unlabeled_ratio",
        image_id="image_id" in needs,
        bank=section.bank,
    )
    return labeled, unlabeled


def make_rule(section: SemiConfig, plan: Plan) -> PseudoLabelRule:
    """The rule that config.semi names."""
    make = written.maker(section.pseudo_label_rule)
    return written.forgetting(make(section.confidence_threshold, section.rule, known(plan)))


def known(plan: Plan) -> Known:
    """What the rule may take as given."""
    per_class = np.asarray(plan.counts.per_class)
    return Known(plan.num_classes, plan.counts.unlabeled, plan.steps_per_epoch, per_class / per_class.sum())


HEALTH = Health(
    step="mask_rate",
    evaluation="val_ema/acc1",
    told="the teacher's accuracy",
    kept="pseudo labels",
    quantiles=("confidence_q10", "confidence_q50", "confidence_q90"),
    key=lambda section: "confidence_threshold" if written.is_by_threshold(section.pseudo_label_rule) else "",
)
