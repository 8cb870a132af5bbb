"""What is measured: a model, a stage and a batch, with everything that costs time switched on."""

import dataclasses
from typing import Any

import numpy as np

from configs import _base
from semivit_jax.config import Config
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.plan import ImageCounts, Plan, equal_shares
from semivit_jax.recipes import check
from semivit_jax.recipes.planning import make_plan

UNLABELED_RATIO = 5  # of every published recipe
PUBLISHED_GROUP = {"vit_s16": 16, "vit_b16": 16, "vit_l16": 8, "vit_h14": 2, "vit_h16": 2}  # labeled images
SMALL_IMAGES = {
    "vit_digits": 8,
    "vit_digits4": 8,
    "vit_s4": 32,
    "vit_study4": 32,
    "vit_study8": 32,
    "vit_test": 32,
    "vit_test2": 32,
    "convnext_test": 32,
}  # side, pixels
DECODER = {"decoder_width": 512, "decoder_depth": 8, "decoder_num_heads": 16}  # He et al. 2022, table 1
TINY_DECODER = {"decoder_width": 32, "decoder_depth": 1, "decoder_num_heads": 2}


@dataclasses.dataclass(frozen=True)
class Case:
    """One step to measure. `batch` counts labeled images in the semi stage, five unlabeled ones come on top."""

    model: str
    stage: str  # 'mae', 'finetune' or 'semi'
    batch: int
    image_size: int
    num_classes: int
    dtype: str  # of activations: 'float32' or 'bfloat16'
    attention: str = "auto"
    remat: str = "none"
    unroll: int = 1

    @property
    def labeled(self) -> int:
        """Labeled images per update; the images without labels of the mae stage count as unlabeled."""
        return 0 if self.stage == "mae" else self.batch

    @property
    def unlabeled(self) -> int:
        return {"mae": self.batch, "finetune": 0, "semi": UNLABELED_RATIO * self.batch}[self.stage]


def config_of(case: Case) -> Config:
    """A complete recipe for the case, from plain dicts; the seed and the durations do not matter here."""
    optimizer = {
        "epochs": 100.0, "min_updates": 0, "batch_size": case.batch, "accum": 1, "base_lr": 1e-3, "lr_rule": "per_256",
        "min_lr": 1e-6, "schedule": "cosine", "warmup_epochs": 5.0, "eps": 1e-8, "weight_decay": 0.05, "clip_norm": 0.0,
    }  # fmt: skip
    supervised = {
        **optimizer, "betas": (0.9, 0.999), "layer_decay": 0.75, "drop_path_rate": 0.1, "ema_decay": 0.9999,
        "label_smoothing": 0.1, "labeled_mixup": True, "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mixup_prob": 1.0,
        "cutmix_switch_prob": 0.5, "mixup_group_size": mixing_group(case), "erase_prob": 0.25, "head_lr_scale": 1.0,
        "published_acc1": 0.0, "labeled_loss": "plain", "balance_beta": 0.999, "adjust_tau": 1.0,
        "balanced_order": False,
    }  # fmt: skip
    semi = {
        **supervised, "unlabeled_ratio": UNLABELED_RATIO, "unlabeled_weight": 5.0, "teacher": "ema",
        "pseudo_label_rule": "fixed", "confidence_threshold": 0.7, "pseudo_mixup": "prob", "rule": _base.rule(),
        "bank": "", "outliers": "none",
    }  # fmt: skip
    decoder = DECODER if case.model in PUBLISHED_GROUP else TINY_DECODER
    mae = {**optimizer, "betas": (0.9, 0.95), "mask_ratio": 0.75, "norm_pix_loss": True, **decoder}
    model = {
        "variant": case.model, "pool": "mean", "posemb": "learned", "head_init_std": 0.02, "head_init": "random",
        "layer_norm_eps": 1e-6, "dtype": case.dtype, "attention": case.attention, "remat": case.remat,
        "unroll": case.unroll, "head": "linear", "tune": "all", "lora_kind": "low_rank", "lora_rank": 8,
        "lora_alpha": 16.0, "lora_matrices": "attention", "bottleneck_scale": 0.1,
    }  # fmt: skip
    return check.check(
        {
            "seed": 0, "stages": (case.stage,), "init_from": "", "data": _data(case), "model": model, "mae": mae,
            "finetune": supervised, "semi": semi, "train": _TRAIN,
            "mesh": {"fsdp": 1, "coordinator_address": "", "num_processes": 1, "process_id": 0,
                     "coordinator_timeout_seconds": 300.0},
            "checkpoint": {"save_every_steps": 1000, "keep": 1},
            "log": {"every_steps": 50, "writers": ("jsonl",), "tensorboard": False, "profile_at": 0,
                    "profile_steps": 5, "report": False, "recipe": "benchmark", "origin": "ours"},
        }
    )  # fmt: skip


def mixing_group(case: Case) -> int:
    """The published group where the batch holds whole ones, else the largest even divisor of the batch below it."""
    published = PUBLISHED_GROUP.get(case.model, 2)
    fitting = [size for size in range(2, published + 1, 2) if case.batch % size == 0]
    return max(fitting, default=2)


def plan_of(config: Config, case: Case, *, num_devices: int) -> Plan:
    """The plan of the case's stage on data of ImageNet's size."""
    counts = ImageCounts(1_281_167, 128_117, 1_153_050, equal_shares(128_117, case.num_classes))
    return make_plan(config, case.stage, counts, num_devices=num_devices, stored_group_size=None)


def random_batch(case: Case, seed: int) -> dict[str, Any]:
    """A host batch of random uint8 images and labels, leaves [1, rows, ...] as the step takes them."""
    generator = np.random.default_rng(seed)

    def images(rows: int) -> np.ndarray:
        return generator.integers(0, 256, (1, rows, case.image_size, case.image_size, 3), dtype=np.uint8)

    def labels(rows: int) -> np.ndarray:
        return generator.integers(0, case.num_classes, (1, rows), dtype=np.int32)

    if case.stage == "mae":
        return {"image": images(case.batch)}
    labeled = {"image": images(case.batch), "label": labels(case.batch)}
    if case.stage == "finetune":
        return labeled
    unlabeled = {"weak": images(case.unlabeled), "strong": images(case.unlabeled), "label": labels(case.unlabeled)}
    return {"labeled": labeled, "unlabeled": unlabeled}


def tiny(stage: str) -> Case:
    """A case that a CPU finishes in seconds."""
    return Case("vit_test2", stage, batch=2, image_size=32, num_classes=10, dtype="float32", attention="xla")


def image_size(model: str) -> int:
    """Side of the images that a model is for, pixels: those of the small ones, or ImageNet's 224."""
    return SMALL_IMAGES.get(model, 224)


def full(model: str, stage: str, batch: int) -> Case:
    """ImageNet's shapes in bfloat16, with the attention kernel the backend offers."""
    if model not in VIT_SIZES:
        raise ValueError(f"model is {model!r}; legal values: {', '.join(VIT_SIZES)}")
    return Case(model, stage, batch, image_size=image_size(model), num_classes=1000, dtype="bfloat16")


_TRAIN = {
    "eval_every_epochs": 1.0, "eval_batch_size": 1, "max_images_per_device": 0, "lower_batch_to_fit": False,
    "deterministic": False, "compilation_cache": False, "agree_every_steps": 10,
    "hang_minutes": 0.0, "max_nonfinite_in_a_row": 10,
    "collapse_window_steps": 10, "collapse_mask_rate_share": 0.1, "collapse_accuracy_share": 0.5,
    "on_collapse": "stop", "max_rollbacks": 0,
}  # fmt: skip


def _data(case: Case) -> dict[str, Any]:
    """Photo views are made on the host, so the step starts from uint8 crops."""
    randaugment = {"num_ops": 2, "magnitude": 9.0, "magnitude_std": 0.5, "apply_prob": 0.5}
    views = {
        "crop_scale": (0.08, 1.0), "mae_crop_scale": (0.2, 1.0), "flip_prob": 0.5, "color_jitter": 0.4,
        "randaugment": randaugment, "path": "fast",
    }  # fmt: skip
    return {
        "dataset": "synthetic", "data_dir": "", "root": "", "labels": "", "renamed": "", "train_split": "train",
        "eval_split": "test", "labels_per_class": 0, "label_fraction": 0.1, "label_list": "", "validation_share": 0.0,
        "image_size": case.image_size, "eval_crop_fraction": 0.875, "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "photo_views": views, "affine_views": None,
        "exif_rotation": False, "max_pixels": 1, "max_bad_share": 0.0, "threads": 0, "workers": 0,
        "prefetch_batches": 2, "cache_features": 0, "keep_none": False,
    }  # fmt: skip
