"""Stage 3: Semi-ViT, labeled and unlabeled images with a teacher and pseudo mixup (Cai et al. 2022)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semivit_jax.config import Config, SemiConfig
from semivit_jax.models.gather import on_every_device
from semivit_jax.ops import metrics, mixup, rng
from semivit_jax.ops.losses import cross_entropy, promote, smoothed_target
from semivit_jax.ops.metrics import Mean, Metrics
from semivit_jax.plan import Plan
from semivit_jax.stages import finetune, state
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages.finetune import mix_groups, mix_labeled
from semivit_jax.stages.groups import join, split
from semivit_jax.stages.pseudo_label import PseudoLabels, rule_of
from semivit_jax.stages.pseudo_mixup import PSEUDO_MIXUPS
from semivit_jax.stages.stage import ImageDraws, PyTree, Stage, ViewSpec, masks, see
from semivit_jax.stages.state import TrainState


class SemiDraws(NamedTuple):
    """Draws of an update, leaves [accum, rows, ...], for mixing [accum, groups, ...]."""

    labeled: ImageDraws
    weak: ImageDraws
    strong: ImageDraws
    labeled_mix: mixup.GroupDraw | None
    pseudo_mix: PyTree  # as its row of PSEUDO_MIXUPS draws; None without pseudo mixup


class PseudoBatch(NamedTuple):
    """Strong images (rows, h, w, c), targets (rows, classes) and confidence_mask (rows,) after pseudo mixup."""

    images: jax.Array
    targets: jax.Array
    confidence_mask: jax.Array


def make_update(config: Config, plan: Plan, *, backend: str):
    """Returns (model, optimizer, update); `update(state, batch, draws)` takes recorded batches and draws too."""
    assert config.semi is not None
    section = config.semi
    model = finetune.build_model(config, section, plan, backend=backend)
    optimizer = finetune.build_optimizer(section, plan, model)
    specs = _specs(config, section, model)
    rule = rule_of(section)
    group, num_classes = plan.group_size, plan.num_classes

    def micro_loss(params: PyTree, ema_params: PyTree, policy_state: PyTree, batch: PyTree, draws: SemiDraws):
        labeled = see(batch["labeled"]["image"], draws.labeled, specs.labeled)
        weak, strong = see_unlabeled(batch["unlabeled"], draws, specs)

        # The teacher is read before this step's update, and never receives a gradient.
        if section.teacher == "ema":
            teacher_logits = model.logits(ema_params, weak, None)
        else:  # the student labels its own weak view in training mode (FixMatch)
            teacher_logits = model.logits(params, weak, masks(draws.weak))
        probs = jax.nn.softmax(promote(jax.lax.stop_gradient(teacher_logits)))
        policy_state, pseudo = rule.apply(policy_state, probs)

        targets = smoothed_target(batch["labeled"]["label"], num_classes, section.label_smoothing, labeled.dtype)
        labeled, targets = mix_labeled(labeled, targets, draws.labeled_mix, group)
        mixed = mix_pseudo(strong, pseudo, draws.pseudo_mix, section, num_classes, group * plan.unlabeled_ratio)

        logits, strong_logits = joined_forward(params, labeled, mixed.images, draws)
        loss_labeled = cross_entropy(logits, targets).mean()
        loss_unlabeled = (mixed.confidence_mask * cross_entropy(strong_logits, mixed.targets)).mean()
        loss = loss_labeled + section.unlabeled_weight * loss_unlabeled
        found = {
            "loss": metrics.of(loss),
            "loss_labeled": metrics.of(loss_labeled),
            "loss_unlabeled": metrics.of(loss_unlabeled),
            **pseudo_label_metrics(pseudo, mixed.confidence_mask, batch["unlabeled"]["label"]),
        }
        return loss, (policy_state, found)

    def joined_forward(params: PyTree, labeled: jax.Array, strong: jax.Array, draws: SemiDraws):
        """One student pass over labeled and strong images, joined group by group so nothing moves."""
        strong_group = group * plan.unlabeled_ratio
        rows = jnp.concatenate([split(labeled, group), split(strong, strong_group)], axis=1)
        drop_path = None
        if draws.labeled.drop_path is not None and draws.strong.drop_path is not None:
            parts = [split(draws.labeled.drop_path, group), split(draws.strong.drop_path, strong_group)]
            drop_path = masks(ImageDraws(drop_path=join(jnp.concatenate(parts, axis=1))))
        logits = split(model.logits(params, join(rows), drop_path), group + strong_group)
        return join(logits[:, :group]), join(logits[:, group:])

    def update(state: TrainState, batch: PyTree, draws: SemiDraws) -> tuple[TrainState, Metrics]:
        def loss_of(params: PyTree, policy_state: PyTree, batch: PyTree, draws: SemiDraws):
            return micro_loss(params, state.ema_params, policy_state, batch, draws)

        return stage_lib.update(
            state, batch, draws, micro_loss=loss_of, optimizer=optimizer, ema_decay=section.ema_decay
        )

    return model, optimizer, update


def mix_pseudo(
    strong: jax.Array,
    pseudo: PseudoLabels,
    draw: PyTree,
    section: SemiConfig,
    num_classes: int,
    group_size: int,
) -> PseudoBatch:
    """Targets, mask and images the student learns from, by config.semi.pseudo_mixup.

    Without pseudo mixup the target is the hard pseudo label; with it, the label-smoothed one, mixed.
    """
    dtype, kind = pseudo.confidence.dtype, PSEUDO_MIXUPS[section.pseudo_mixup]
    if kind is None:
        hard = smoothed_target(pseudo.pseudo_label, num_classes, 0.0, dtype)
        return PseudoBatch(strong, hard, pseudo.weight)
    targets = smoothed_target(pseudo.pseudo_label, num_classes, section.label_smoothing, dtype)
    height, width = strong.shape[1:3]
    confidence, weight = split(pseudo.confidence, group_size), split(pseudo.weight, group_size)
    mixing, weight = jax.vmap(lambda d, c, w: kind.mix(d, c, w, height, width))(draw, confidence, weight)
    images, targets = mix_groups(strong, targets, mixing, group_size)
    return PseudoBatch(images, targets, join(weight))


def pseudo_label_metrics(pseudo: PseudoLabels, confidence_mask: jax.Array, label: jax.Array) -> Metrics:
    """Share kept, confidence quantiles and, where true labels are known (>= 0), how right the labels are.

    Accuracy always refers to an image's own, unmixed pseudo label; the mask may come from its partner.
    """
    dtype = confidence_mask.dtype
    known = (label >= 0).astype(dtype)
    right = (pseudo.pseudo_label == label).astype(dtype) * known
    low, middle, high = jnp.quantile(pseudo.confidence, jnp.asarray([0.1, 0.5, 0.9]))
    return {
        "mask_rate": metrics.of(confidence_mask.mean()),
        "teacher_acc": Mean(right.sum(), known.sum()),
        "pseudo_label_acc": metrics.over(right, confidence_mask * known),
        "pseudo_label_recall": metrics.over(confidence_mask, right),
        "confidence_q10": metrics.of(low),
        "confidence_q50": metrics.of(middle),
        "confidence_q90": metrics.of(high),
    }


def make_stage(config: Config, plan: Plan, *, backend: str) -> Stage:
    """Closes over model and optimizer; evaluation is fine-tuning's."""
    assert config.semi is not None
    section = config.semi
    model, optimizer, update = make_update(config, plan, backend=backend)
    rule = rule_of(section)

    def init(key: jax.Array) -> TrainState:
        params = model.init(rng.stream(key, "params"))
        return state.create(params, optimizer, keep_ema=True, policy_state=rule.initial_state())

    def train_step(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Metrics]:
        return update(state, batch, sample_draws(config, plan, model, key, state.position))

    return Stage("semi", init, train_step, finetune.make_eval_step(config, model), finetune.eval_params)


def sample_draws(config: Config, plan: Plan, model: finetune.Network, key: jax.Array, position: jax.Array) -> SemiDraws:
    """All draws of one update."""
    assert config.semi is not None
    section, ratio, image_size = config.semi, plan.unlabeled_ratio, config.data.image_size
    specs = _specs(config, section, model)

    def images(name: str, images_per_labeled: int, spec: ViewSpec) -> ImageDraws:
        return stage_lib.stream_draws(key, name, position=position, plan=plan, ratio=images_per_labeled, spec=spec)

    return SemiDraws(
        labeled=images("labeled", 1, specs.labeled),
        weak=images("weak", ratio, specs.weak),
        strong=images("strong", ratio, specs.strong),
        labeled_mix=finetune.sample_labeled_mix(key, position, section, plan, image_size),
        pseudo_mix=sample_pseudo_mix(key, position, section, plan, image_size),
    )


def sample_pseudo_mix(key: jax.Array, position: jax.Array, section: SemiConfig, plan: Plan, image_size: int):
    """One draw per mixing group, leaves [accum, groups, ...]; None without pseudo mixup."""
    kind = PSEUDO_MIXUPS[section.pseudo_mixup]
    if kind is None:
        return None
    draws = rng.grouped(
        lambda k: kind.sample(k, plan.group_size * plan.unlabeled_ratio, image_size, finetune.chances(section)),
        rng.stream(key, "pseudo_mix"),
        position=position,
        accum=plan.accum,
        groups=plan.groups,
    )
    return on_every_device(draws) if kind.by_rejection else draws


class _Specs(NamedTuple):
    labeled: ViewSpec
    weak: ViewSpec
    strong: ViewSpec


def _specs(config: Config, section: SemiConfig, model: finetune.Network) -> _Specs:
    data, views = config.data, config.data.affine_views
    # The weak view is never erased; only a student that labels it passes it with drop path.
    weak_rates = model.drop_path_rates if section.teacher == "student" else None
    weak = ViewSpec(data.mean, data.std, data.image_size, views.weak if views else None, 0.0, weak_rates)
    strong = finetune.train_spec(config, section, model, views.strong if views else None)
    return _Specs(finetune.labeled_spec(config, section, model), weak, strong)


def see_unlabeled(unlabeled: PyTree, draws: SemiDraws, specs: _Specs) -> tuple[jax.Array, jax.Array]:
    """Weak and strong images: two arrays from the host, or two device views of one 'image'."""
    weak, strong = (unlabeled.get(name, unlabeled.get("image")) for name in ("weak", "strong"))
    return see(weak, draws.weak, specs.weak), see(strong, draws.strong, specs.strong)
