"""Small configs for tests: the digits recipe with its model and stages pinned, so that tuning it moves no test."""

from types import SimpleNamespace

from configs import digits
from semivit_jax.plan import ImageCounts, Plan, equal_shares
from semivit_jax.recipes import check
from semivit_jax.stages import STAGES

ADAMW = {"accum": 1, "lr_rule": "per_256", "schedule": "cosine", "eps": 1e-8, "weight_decay": 0.05,
         "clip_norm": 0.0}  # fmt: skip
SUPERVISED = ADAMW | {
    "epochs": 200.0, "batch_size": 40, "base_lr": 5e-3, "min_lr": 1e-6, "warmup_epochs": 5.0, "betas": (0.9, 0.999),
    "layer_decay": 0.75, "drop_path_rate": 0.0, "ema_decay": 0.99, "label_smoothing": 0.1, "labeled_mixup": True,
    "mixup_alpha": 0.8, "cutmix_alpha": 0.0, "mixup_prob": 1.0, "cutmix_switch_prob": 0.0, "mixup_group_size": 10,
    "erase_prob": 0.0, "head_lr_scale": 1.0,
}  # fmt: skip
PINNED = {
    "model": {"variant": "vit_digits", "unroll": 1},
    "mae": ADAMW | {
        "epochs": 200.0, "batch_size": 256, "base_lr": 1e-3, "min_lr": 0.0, "warmup_epochs": 10.0,
        "betas": (0.9, 0.95), "mask_ratio": 0.75, "norm_pix_loss": True, "decoder_width": 32,
        "decoder_depth": 2, "decoder_num_heads": 2,
    },
    "finetune": SUPERVISED,
    "semi": SUPERVISED | {
        "unlabeled_ratio": 5, "unlabeled_weight": 5.0, "teacher": "ema", "pseudo_label_rule": "fixed",
        "confidence_threshold": 0.8, "pseudo_mixup": "prob",
    },
}  # fmt: skip


def raw_config(**changes):
    """A complete ConfigDict with changes like **{"semi.teacher": "student"}; unknown keys are errors."""
    raw = digits.get_config()
    pinned = {f"{section}.{key}": value for section, keys in PINNED.items() for key, value in keys.items()}
    raw.update_from_flattened_dict(pinned | changes)
    return raw


def small_config(**changes):
    return check.check(raw_config(**changes))


def counts_of(training, labeled, unlabeled, classes):
    return ImageCounts(training, labeled, unlabeled, equal_shares(labeled, classes))


def small_plan(stage, **changes):
    """One update of one group on one device, 10 updates per epoch."""
    fields = {
        "stage": stage, "num_devices": 1, "num_classes": 10, "batch_size": 4,
        "unlabeled_ratio": 5 if stage == "semi" else 0, "recipe_accum": 1, "accum": 1, "group_size": 4,
        "micro_per_epoch": 10, "steps_per_epoch": 10, "stretch": 1.0, "total_steps": 20, "eval_every_steps": 10,
        "peak_lr": 1e-3, "deviations": (), "counts": counts_of(100, 20, 80, classes=10),
    } | changes  # fmt: skip
    section = SimpleNamespace(
        unlabeled_ratio=fields["unlabeled_ratio"],
        pseudo_label_rule="fixed",
        rule=None,
        outliers="none",
        bank="",
        balanced_order=False,
    )
    return Plan(**{"streams": STAGES[stage].streams(section), **fields})
