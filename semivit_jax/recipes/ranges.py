"""The smallest and largest legal value of a config's numbers; words and combinations are check.py's."""

import math

from semivit_jax.config import STAGES

SHARE = (0.0, 1.0)
POSITIVE = (1e-12, math.inf)
NOT_NEGATIVE = (0.0, math.inf)
AT_LEAST_ONE = (1, math.inf)
AFFINE_VIEWS = ("mae", "labeled", "weak", "strong")
_AFFINE_RANGES = {"degrees": NOT_NEGATIVE, "shift": NOT_NEGATIVE, "scale": POSITIVE, "shear": NOT_NEGATIVE}
_STAGE_RANGES = {
    "base_lr": NOT_NEGATIVE,
    "min_lr": NOT_NEGATIVE,
    "betas": (0.0, 0.999999),
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "layer_decay": (1e-06, 1.0),
    "clip_norm": NOT_NEGATIVE,
    "drop_path_rate": (0.0, 0.999),
    "mask_ratio": (0.01, 0.99),
    "decoder_width": AT_LEAST_ONE,
    "decoder_depth": AT_LEAST_ONE,
    "decoder_num_heads": AT_LEAST_ONE,
    "ema_decay": SHARE,
    "label_smoothing": (0.0, 0.999),
    "mixup_alpha": NOT_NEGATIVE,
    "cutmix_alpha": NOT_NEGATIVE,
    "mixup_prob": SHARE,
    "cutmix_switch_prob": SHARE,
    "erase_prob": SHARE,
    "head_lr_scale": NOT_NEGATIVE,
    "published_acc1": (0.0, 100.0),
    "unlabeled_weight": NOT_NEGATIVE,
    "confidence_threshold": SHARE,
}
RANGES = {
    "seed": NOT_NEGATIVE,
    **{f"{stage}.{key}": limits for stage in STAGES for key, limits in _STAGE_RANGES.items()},
    **{f"data.affine_views.{v}.{key}": limits for v in AFFINE_VIEWS for key, limits in _AFFINE_RANGES.items()},
    "model.layer_norm_eps": POSITIVE,
    "model.head_init_std": NOT_NEGATIVE,
    "data.labels_per_class": NOT_NEGATIVE,
    "data.label_fraction": SHARE,
    "data.validation_share": SHARE,
    "data.max_bad_share": SHARE,
    "data.image_size": AT_LEAST_ONE,
    "data.eval_crop_fraction": (1e-3, 1.0),
    "data.std": POSITIVE,
    "data.max_pixels": AT_LEAST_ONE,
    "data.threads": NOT_NEGATIVE,
    "data.workers": NOT_NEGATIVE,
    "data.prefetch_batches": NOT_NEGATIVE,
    "data.photo_views.crop_scale": (1e-6, 1.0),
    "data.photo_views.mae_crop_scale": (1e-6, 1.0),
    "data.photo_views.flip_prob": SHARE,
    "data.photo_views.color_jitter": SHARE,
    "data.photo_views.randaugment.num_ops": NOT_NEGATIVE,
    "data.photo_views.randaugment.magnitude": (0.0, 10.0),
    "data.photo_views.randaugment.magnitude_std": NOT_NEGATIVE,
    "data.photo_views.randaugment.apply_prob": SHARE,
    "train.eval_every_epochs": POSITIVE,
    "train.max_images_per_device": NOT_NEGATIVE,
    "train.collapse_mask_rate_share": SHARE,
    "train.collapse_accuracy_share": SHARE,
    "train.max_rollbacks": NOT_NEGATIVE,
    "mesh.coordinator_timeout_seconds": POSITIVE,
}
"""Smallest and largest legal number of a key, or of every number in its tuple."""
