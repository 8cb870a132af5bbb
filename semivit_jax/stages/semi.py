"""Train Semi-ViT on labeled and unlabeled images with a teacher (Cai et al. 2022): stage 3."""

import functools
from typing import NamedTuple

import jax

from semivit_jax.config import Config
from semivit_jax.models import families, tuning
from semivit_jax.models.families import Network
from semivit_jax.models.spec import ModelSpec
from semivit_jax.ops import metrics, mixup
from semivit_jax.ops.losses import cross_entropy, promote, smoothed_target
from semivit_jax.ops.metrics import Metrics
from semivit_jax.ops.mixup import join, mix_labeled
from semivit_jax.plan import Plan, Stream
from semivit_jax.stages import finetune, supervised
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages.forward import forward_together
from semivit_jax.stages.pseudo_label import Banked, Evidence, PseudoLabels
from semivit_jax.stages.pseudo_metrics import pseudo_label_metrics, rule_metrics
from semivit_jax.stages.pseudo_mixup import mix_pseudo, sample_pseudo_mix
from semivit_jax.stages.semi_config import SemiConfig, check, deciding_key, is_plain, known, make_rule, needs_of
from semivit_jax.stages.spec import Health, Pass, StageSpec
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree, Stage, masks, see, see_view
from semivit_jax.stages.state import TrainState


class SemiDraws(NamedTuple):
    """Draws of an update, leaves [accum, rows, ...], for mixing [accum, groups, ...]."""

    labeled: ImageDraws
    weak: ImageDraws
    strong: ImageDraws
    labeled_mix: mixup.GroupDraw | None
    pseudo_mix: PyTree  # as its row of PSEUDO_MIXUPS draws; None without pseudo mixup
    labeled_weak: ImageDraws = ImageDraws()  # where the rule needs 'labeled'


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
        # The step of the paper's rule stays the program that its recorded numbers are of.
        found = {} if is_plain(section) else rule_metrics(pseudo, known(plan).label_prior)
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
        loss_labeled = labeled_loss(logits, targets).mean()
        shifted = strong_logits if rule.offset is None else promote(strong_logits) + rule.offset(policy_state)
        loss_unlabeled = (mixed.confidence_mask * cross_entropy(shifted, mixed.targets)).mean()
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
    section, ratio, image_size = _section(config), plan.unlabeled_ratio, config.data.image_size
    specs, needs = _specs(config, section, network), needs_of(section)

    def images(name: str, images_per_labeled: int, spec: DeviceView) -> ImageDraws:
        return stage_lib.stream_draws(key, name, position=position, plan=plan, ratio=images_per_labeled, spec=spec)

    return SemiDraws(
        labeled=images("labeled", 1, specs.labeled),
        weak=images("weak", ratio, specs.weak),
        strong=images("strong", ratio, specs.strong),
        labeled_mix=supervised.sample_labeled_mix(key, position, section, plan, image_size),
        pseudo_mix=sample_pseudo_mix(
            key, position, plan, kind=section.pseudo_mixup, image_size=image_size, chances=supervised.chances(section)
        ),
        labeled_weak=images("labeled_weak", 1, specs.weak) if "labeled" in needs else ImageDraws(),
    )


class _Specs(NamedTuple):
    labeled: DeviceView
    weak: DeviceView
    strong: DeviceView


def _specs(config: Config, section: SemiConfig, network: Network) -> _Specs:
    rates = network.drop_path_rates
    # Only a student that labels the weak view passes it with drop path.
    passed = {"labeled": rates, "weak": rates if section.teacher == "student" else None, "strong": rates}
    return _Specs(**{row: supervised.view_of(config, section, row, of_row) for row, of_row in passed.items()})


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
        key=deciding_key,
    ),
)
