"""Breaks in the maths of learning: losses, mixing, draws, the optimizer, and what the stages make of them."""

from tests.breaks.broken import Break

UPDATE = ("tests/stages/test_update.py",)
TRAJECTORIES_FLOAT32 = ("tests/parity/test_trajectories.py::test_semi[A-float32]",)
TRAJECTORIES_CLIPPED = ("tests/parity/test_trajectories.py::test_finetune[accum2-float64]",)
TABLES = ("tests/parity/test_tables.py",)
DRAWS = ("tests/unit/test_draws.py",)
PSEUDO_MIX = ("tests/stages/test_pseudo_mix.py",)
MIXUP = ("tests/parity/test_mixup.py",)
MAE = ("tests/parity/test_mae.py",)
SKEW_RULES = ("tests/stages/test_skew_rules.py",)
SIMPRO = ("tests/stages/test_simpro.py",)
SCORES = ("tests/serve/test_scores.py",)
SEMI = "tests/stages/test_semi.py::"
FINETUNE = "tests/stages/test_finetune.py::"

BREAKS = {
    # The state
    "the average takes the share of the params": Break(
        "stages/state.py",
        "optax.incremental_update(params, ema_params, 1.0 - ema_decay)",
        "optax.incremental_update(params, ema_params, ema_decay)",
        UPDATE,
    ),
    "the average follows the params before the update": Break(
        "stages/state.py",
        "ema_update(state.ema_params, params, ema_decay)",
        "ema_update(state.ema_params, state.params, ema_decay)",
        UPDATE,
    ),
    "the average starts as an alias": Break(
        "stages/state.py",
        "jax.tree.map(jnp.copy, params) if keep_ema else None",
        "params if keep_ema else None",
        UPDATE,
    ),
    "an update with a NaN is kept": Break(
        "stages/state.py", "jnp.where(ok, a, b), new", "jnp.where(True, a, b), new", UPDATE
    ),
    "a dropped update is repeated with the same batch": Break(
        "stages/state.py", "position=state.position + 1", "position=state.position + ok", UPDATE
    ),
    # The update
    "gradients of micro-steps are summed": Break(
        "stages/stage.py", "lambda g: g / accum, grads", "lambda g: g, grads", UPDATE
    ),
    "kept branches are not scaled up": Break(
        "stages/stage.py", "(size, *keep.shape)) / keep", "(size, *keep.shape)) * 1.0", DRAWS
    ),
    "pixels are scaled by 256": Break(
        "stages/stage.py", "images.astype(float) / 255.0", "images.astype(float) / 256.0", DRAWS
    ),
    # The optimizer
    "weight decay is not scaled by the layer's learning rate": Break(
        "ops/optim.py", "(u + wd * p) * s, updates", "u * s + wd * p, updates", UPDATE
    ),
    "the bias correction rounds beta before it takes 1 - beta^t": Break(
        "ops/optim.py", "-jnp.expm1(step.astype(float) * math.log(decay))", "1 - decay**step", TRAJECTORIES_FLOAT32
    ),
    "clipping divides by the bare norm": Break(
        "ops/optim.py", "(optax.tree.norm(grads) + 1e-6)", "optax.tree.norm(grads)", TRAJECTORIES_CLIPPED
    ),
    "the schedule forgets accumulation": Break(
        "ops/optim.py", "astype(float) * c.accum / c.micro_per_epoch", "astype(float) / c.micro_per_epoch", TABLES
    ),
    # Losses and metrics
    "patches are normalised by the biased variance": Break(
        "ops/losses.py", "keepdims=True, ddof=1)", "keepdims=True, ddof=0)", MAE
    ),
    "counts of the second batch are lost": Break("ops/metrics.py", "a[k].count + b[k].count", "a[k].count", SCORES),
    # Mixing
    "the less confident image dominates": Break(
        "ops/mixup.py",
        "jnp.where(total > 0, strength / total, 0.5)",
        "jnp.where(total > 0, 1 - strength / total, 0.5)",
        PSEUDO_MIX,
    ),
    "lambda is not corrected for the clipped box": Break(
        "ops/mixup.py", "jnp.where(use_cutmix, 1.0 - area / (height * width), lam)", "lam", MIXUP
    ),
    "images that are not kept find a partner": Break(
        "ops/mixup.py", "jnp.where(kept, mirrored, jnp.arange(size))", "mirrored", PSEUDO_MIX
    ),
    # Draws
    "every micro-step draws the same": Break(
        "ops/rng.py", "fold_in(at_position, g)", "fold_in(at_position, g % groups)", DRAWS
    ),
    "every update draws the same": Break(
        "ops/rng.py",
        "at_position = jax.random.fold_in(key, position)",
        "at_position = jax.random.fold_in(key, 0 * position)",
        (SEMI + "test_every_position_draws_anew",),
    ),
    "boxes are erased in other shapes": Break(
        "ops/erasing.py", "(math.log(0.3), math.log(1 / 0.3))", "(math.log(0.6), math.log(1 / 0.6))", DRAWS
    ),
    "views are turned the other way": Break(
        "ops/affine.py",
        "[cos / stretch_y, sin / stretch_y, offset",
        "[cos / stretch_y, -sin / stretch_y, offset",
        ("tests/unit/test_affine.py",),
    ),
    # The stages
    "a confidence at the threshold is left out": Break(
        "stages/rules/fixed.py", "(confidence >= conf", "(confidence > conf", PSEUDO_MIX
    ),
    "the student labels where the average should": Break(
        "stages/semi.py",
        "network.logits(state.model(state.ema_params), images, None)",
        "network.logits(state.model(state.params), images, None)",
        (
            SEMI + "test_no_gradient_reaches_ema_params",
            SEMI + "test_true_labels_of_unlabeled_images_change_metrics_only",
        ),
    ),
    "the teacher learns": Break(
        "stages/semi.py",
        "jax.lax.stop_gradient(assigned)",
        "assigned",
        (SEMI + "test_no_gradient_reaches_ema_params", SEMI + "test_no_gradient_flows_through_a_student_that_teaches"),
    ),
    "the unlabeled loss is a mean over kept images": Break(
        "stages/semi.py",
        "(mixed.confidence_mask * cross_entropy(taken, mixed.targets)).mean()",
        "(mixed.confidence_mask * cross_entropy(taken, mixed.targets)).sum() / mixed.confidence_mask.sum()",
        ("tests/parity/test_semi_loss.py",),
    ),
    "the running shares of classes are taken over all of them together": Break(
        "stages/rules/debiased.py",
        "probs.mean(axis=0), len(probs)",
        'jnp.full_like(state["q"], probs.mean()), len(probs)',
        SKEW_RULES,
    ),
    "the student's margin has the wrong sign": Break(
        "stages/pseudo_label.py",
        "promote(logits) + offset(state)",
        "promote(logits) - offset(state)",
        SKEW_RULES,
    ),
    "the shares of the unlabeled classes are those of sure images alone": Break(
        "stages/rules/simpro.py",
        "+ target.mean(axis=0)",
        "+ (target * (confidence >= threshold)[:, None]).sum(axis=0) / (confidence >= threshold).sum()",
        SIMPRO,
    ),
    "labeled images are learned without their classes' shares": Break(
        "stages/semi.py",
        "shifted(logits, rule.labeled_offset, policy_state)",
        "shifted(logits, None, policy_state)",
        SIMPRO,
    ),
    "images that are not kept are asked to be fair": Break(
        "stages/rules/free.py", "fairness(probs, weight > 0,", "fairness(probs, weight >= 0,", SKEW_RULES
    ),
    "outsiders weigh as much as others": Break(
        "stages/rules/energy.py", "weight=pseudo.weight * factor", "weight=pseudo.weight", SKEW_RULES
    ),
    "labeled images mix across their groups": Break(
        "ops/mixup.py",
        "partner = reversed_partner(group_size)",
        "partner, group_size = reversed_partner(len(images)), len(images)",
        PSEUDO_MIX,
    ),
    "evaluation counts its padding": Break(
        "stages/supervised.py",
        'batch["label"], batch["mask"])',
        'batch["label"], 0 * batch["mask"] + 1)',
        (FINETUNE + "test_evaluation_ignores_padding",),
    ),
}
