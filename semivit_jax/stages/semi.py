"""Train Semi-ViT on labeled and unlabeled images with a teacher (Cai et al. 2022): stage 3."""

import dataclasses
import functools
from typing import Annotated

import jax
import numpy as np

from semivit_jax.config import AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Config, ConfigError
from semivit_jax.models import families, tuning
from semivit_jax.models.families import Network
from semivit_jax.models.spec import ModelSpec
from semivit_jax.ops import metrics
from semivit_jax.ops.losses import cross_entropy, promote, smoothed_target
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.mixup import join, mix_labeled
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import finetune, semi_draws, supervised
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages.forward import forward_together
from semivit_jax.stages.pseudo_label import Banked, Evidence, Known, PseudoLabelRule, PseudoLabels, RuleConfig, shifted
from semivit_jax.stages.pseudo_metrics import pseudo_label_metrics, rule_metrics
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS, mix_pseudo
from semivit_jax.stages.rules import OUTLIERS, fairness, written
from semivit_jax.stages.rules.simpro import check_labeled
from semivit_jax.stages.semi_draws import SemiDraws, Specs
from semivit_jax.stages.spec import Health, Pass, StageSpec
from semivit_jax.stages.stage import ImageDraws, PyTree, Stage, masks, see, see_view
from semivit_jax.stages.state import TrainState
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
        fairness.check_mixing(section.rule, section.pseudo_mixup)
    if written.adjusts_labeled(section.pseudo_label_rule):
        check_labeled(section.labeled_loss, section.balanced_order)
    if section.ema_decay == 0:
        raise ConfigError("config.semi.ema_decay is 0; the semi-supervised stage always tracks an EMA")


def needs_of(section: SemiConfig) -> frozenset[str]:
    """What the pseudo-label rule needs to be told of an update."""
    return written.needs_of(section.pseudo_label_rule, section.outliers, section.rule)


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (network, optimizer, update); `update(state, batch, draws)` takes those of tests too."""
    section = _section(config)
    network = supervised.build_network(config, section, plan, backend=backend)
    optimizer = supervised.build_optimizer(section, plan, network)
    specs = _specs(config, section, network)
    needs, rule = needs_of(section), make_rule(section, plan)
    group, num_classes, labeled_loss = plan.group_size, plan.num_classes, supervised.labeled_loss(section, plan)

    def teach(state: TrainState, images: jax.Array, draws: ImageDraws) -> jax.Array:
        """The teacher's logits, read before this update; a student that teaches is in training mode (FixMatch)."""
        with jax.named_scope("teacher"):
            if section.teacher == "ema":
                return promote(network.logits(state.model(state.ema_params), images, None))
            return promote(network.logits(state.model(state.params), images, masks(draws)))

    def gather(state: TrainState, batch: PyTree, draws: SemiDraws) -> Evidence:
        """What the rule needs to know of one micro-step."""
        labeled, unlabeled, found = batch["labeled"], batch["unlabeled"], {}
        if "teacher" in needs:
            weak = see_view("weak", unlabeled, draws.weak, specs.weak)
            found["logits"] = teach(state, weak, draws.weak)
        if "image_id" in needs:
            found["image_id"] = unlabeled["image_id"]
        if "bank" in needs:
            found["bank"] = Banked(unlabeled["bank_class"], unlabeled["bank_prob"])
        if "labeled" in needs:
            weak = see_view("weak", labeled, draws.labeled_weak, specs.weak)
            found |= {"labeled_logits": teach(state, weak, draws.labeled_weak), "labels": labeled["label"]}
        return Evidence(**found)

    def assign(state: TrainState, batch: PyTree, draws: SemiDraws) -> tuple[PyTree, PseudoLabels, Metrics]:
        """The rule's state after the update, pseudo labels with leaves [accum, rows, ...], and what is told of them."""
        evidence = stage_lib.each_micro_step(functools.partial(gather, state), batch, draws)
        accum = stage_lib.num_micro_steps(batch)
        assigned = rule.assign(state.policy_state, jax.tree.map(join, evidence))
        policy_state, pseudo = jax.lax.stop_gradient(assigned)  # nothing is learned through a teacher or a rule
        plain = section.pseudo_label_rule == "fixed" and section.outliers == "none"
        # The step of the paper's rule stays the program that its recorded numbers are of.
        found = {} if plain else rule_metrics(pseudo, known(plan).label_prior)
        pseudo = pseudo._replace(thresholds=None)  # of classes, not of rows
        return policy_state, jax.tree.map(lambda x: x.reshape(accum, -1, *x.shape[1:]), pseudo), found

    def micro_loss(policy_state: PyTree, params: PyTree, inputs: tuple[PyTree, PseudoLabels], draws: SemiDraws):
        batch, pseudo = inputs
        labeled = see(batch["labeled"]["image"], draws.labeled, specs.labeled)
        strong = see_view("strong", batch["unlabeled"], draws.strong, specs.strong)
        targets = smoothed_target(batch["labeled"]["label"], num_classes, section.label_smoothing, labeled.dtype)
        with jax.named_scope("mixing"):
            labeled, targets = mix_labeled(labeled, targets, draws.labeled_mix, group)
            mixed = mix_pseudo(
                strong,
                pseudo,
                draws.pseudo_mix,
                kind=section.pseudo_mixup,
                label_smoothing=section.label_smoothing,
                group_size=group * plan.unlabeled_ratio,
            )

        with jax.named_scope("student"):
            masked = (draws.labeled.drop_path, draws.strong.drop_path)
            logits, strong_logits = forward_together(
                network, params, (labeled, mixed.images), masked, groups=(group, group * plan.unlabeled_ratio)
            )
        loss_labeled = labeled_loss(shifted(logits, rule.labeled_offset, policy_state), targets).mean()
        taken = shifted(strong_logits, rule.offset, policy_state)
        loss_unlabeled = (mixed.confidence_mask * cross_entropy(taken, mixed.targets)).mean()
        found = {}
        if rule.penalty is not None:
            penalty = rule.penalty(policy_state, jax.nn.softmax(promote(strong_logits)), mixed.confidence_mask)
            loss_unlabeled, found = loss_unlabeled + penalty, {"loss_penalty": metrics.of(penalty)}
        loss = loss_labeled + section.unlabeled_weight * loss_unlabeled
        return loss, {
            "loss": metrics.of(loss),
            "loss_labeled": metrics.of(loss_labeled),
            "loss_unlabeled": metrics.of(loss_unlabeled),
            **found,
            **pseudo_label_metrics(pseudo, mixed.confidence_mask, batch["unlabeled"]["label"]),
        }

    def update(state: TrainState, batch: PyTree, draws: SemiDraws) -> tuple[TrainState, Metrics]:
        policy_state, pseudo, told = assign(state, batch, draws)
        after, found = stage_lib.update(
            state,
            (batch, pseudo),
            draws,
            micro_loss=functools.partial(micro_loss, policy_state),
            optimizer=optimizer,
            ema_decay=section.ema_decay,
            policy_state=policy_state,
        )
        return after, found | told

    return network, optimizer, update


def make_rule(section: SemiConfig, plan: Plan) -> PseudoLabelRule:
    """The rule that config.semi names.

    Raises:
      ConfigError: it has a penalty that the plan's updates do not fit.
    """
    make = written.maker(section.pseudo_label_rule, section.outliers)
    if written.is_penalised(section.pseudo_label_rule, section.rule):
        fairness.check_plan(section.rule, plan)
    return written.forgetting(make(section.confidence_threshold, section.rule, known(plan)))


def known(plan: Plan) -> Known:
    """What the rule may take as given."""
    per_class = np.asarray(plan.counts.per_class)
    prior = per_class / per_class.sum()
    return Known(plan.num_classes, plan.counts.unlabeled, plan.steps_per_epoch, prior, plan.unlabeled_ratio)


def make(config: Config, plan: Plan, backend: str) -> Stage:
    """Closes over network and optimizer."""
    section = _section(config)
    network, optimizer, update = make_update(config, plan, backend=backend)
    rule = make_rule(section, plan)

    def init(key: jax.Array) -> TrainState:
        return supervised.create_state(key, network, optimizer, keep_ema=True, policy_state=rule.init())

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(config, plan, network, key, state.position))

    eval_step = supervised.make_eval_step(config, network)
    return Stage(
        "semi", init, train_step, eval_step, supervised.eval_params, supervised.make_grade(plan), network.parting
    )


def _section(config: Config) -> SemiConfig:
    section = config.stage("semi")
    assert isinstance(section, SemiConfig)
    return supervised.on_features(config, section)


def sample_draws(config: Config, plan: Plan, network: Network, key: jax.Array, position: jax.Array) -> SemiDraws:
    """All draws of one update."""
    section = _section(config)
    return semi_draws.sample(
        key,
        position,
        section,
        plan,
        _specs(config, section, network),
        image_size=config.data.image_size,
        pseudo_mixup=section.pseudo_mixup,
        labeled_weak="labeled" in needs_of(section),
    )


def _specs(config: Config, section: SemiConfig, network: Network) -> Specs:
    return semi_draws.specs(config, section, network, student_teaches=section.teacher == "student")


def streams(section: SemiConfig) -> tuple[Stream, Stream]:
    """Labeled and unlabeled images, with what the pseudo-label rule needs of them."""
    needs = needs_of(section)
    weak, own, strong = ("weak", "weak"), ("image", "labeled"), ("strong", "strong")
    seen, balanced = (own, weak) if "labeled" in needs else (own,), section.balanced_order
    labeled = Stream("labeled", "labeled", seen, sets_epoch=False, balanced=balanced)
    taught = (weak, strong) if "teacher" in needs else (strong,)
    unlabeled = Stream("unlabeled", "unlabeled", taught, section.unlabeled_ratio, ratio_key="unlabeled_ratio")
    return labeled, unlabeled._replace(image_id="image_id" in needs, bank=section.bank)


def passes(config: Config, model: ModelSpec) -> tuple[Pass, ...]:
    """All images through the student; through the teacher, forward only, what the pseudo-label rule needs."""
    section = _section(config)
    ratio, needs = section.unlabeled_ratio, needs_of(section)
    student = Pass(tuning.cost(config.model, model), 1 + ratio, backward=True)
    taught = ratio * ("teacher" in needs) + ("labeled" in needs)
    return (student, Pass(families.cost(model), taught, backward=False)) if taught else (student,)


SPEC = StageSpec(
    name="semi",
    section=SemiConfig,
    check=check,
    streams=streams,
    group_size=lambda section: section.mixup_group_size,
    model=supervised.model,
    passes=passes,
    make=make,
    starts_from=finetune.STARTS_FROM,
    score="acc1",
    summary={
        "acc1": "val/acc1",
        "ema_acc1": "val_ema/acc1",
        "mask_rate": "last_epoch/mask_rate",
        "pseudo_label_acc": "last_epoch/pseudo_label_acc",
    },
    rows=(("Semi-ViT, student", "acc1"), ("Semi-ViT, teacher (EMA)", "ema_acc1")),
    shown={"train/mask_rate": "mask_rate {:.1%}", "train/pseudo_label_acc": "pseudo_label_acc {:.1%}"},
    health=Health(
        step="mask_rate",
        evaluation="val_ema/acc1",
        told="the teacher's accuracy",
        kept="pseudo labels",
        quantiles=("confidence_q10", "confidence_q50", "confidence_q90"),
        key=lambda section: "confidence_threshold" if written.is_by_threshold(section.pseudo_label_rule) else "",
        evened_by=lambda section: written.evened_by(section.pseudo_label_rule),
    ),
)
