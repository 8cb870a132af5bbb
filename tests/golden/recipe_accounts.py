"""The account of recipes.json: for each of its keys the config key that carries it, or why none does.

Keys of the real argument parser (`argparse_all`) start with '--', keys worked out from them stand as they are.
Config keys are flattened; 'stage.' is the section of the recipe's own stage (its last), and 'plan.' is what
`make_plan` derives on the published number of GPUs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

Recorded = dict[str, Any]  # one recipe of recipes.json


@dataclasses.dataclass(frozen=True)
class Carried:
    """`key` of the config holds `becomes(recorded value, recipe)`, for recipes where `where(recipe)` is true."""

    key: str
    becomes: Callable[[Any, Recorded], Any] = lambda value, recipe: value
    where: Callable[[Recorded], bool] = lambda recipe: True
    elsewhere: str = ""  # the reason it is not carried by the other recipes


@dataclasses.dataclass(frozen=True)
class NotCarried:
    reason: str


Account = Carried | NotCarried

VARIANTS = {
    "vit_base_patch16": "vit_b16",
    "vit_large_patch16": "vit_l16",
    "vit_huge_patch14": "vit_h14",
    "convnext_tiny": "convnext_tiny",
}


def is_semi(recipe: Recorded) -> bool:
    return "semi" in recipe["script"]


def is_vit(recipe: Recorded) -> bool:
    return "conv" not in recipe["script"]


def is_scratch(recipe: Recorded) -> bool:
    return "scratch" in recipe["name"]


def config_arguments(recipe: Recorded) -> str:
    """`model=vit_b16,labels=1pct,init=mae` of one recorded recipe."""
    init = "scratch" if is_scratch(recipe) else "mae"
    return f"model={VARIANTS[recipe['model']]},labels={recipe['label_percent']}pct,init={init}"


def config_file(recipe: Recorded) -> str:
    return "imagenet_semi" if is_semi(recipe) else "imagenet_finetune"


def _or_zero(value: Any, recipe: Recorded) -> float:
    return value or 0.0


def _mae_folder(recipe: Recorded) -> str:
    return "" if is_scratch(recipe) else f"weights/mae_{VARIANTS[recipe['model']]}"


def _label_list(recipe: Recorded) -> str:
    return f"imagenet_subsets/{recipe['label_percent']}percent.txt"


CONV_ONLY = "ConvNeXt has no such choice"
VIT_ONLY = "a choice of the ConvNeXt scripts"
DEVICES = "devices are those at hand; times the per-GPU batch they give batch_size, which is carried"
CHECKPOINTS = "checkpoints go by updates (checkpoint.save_every_steps), kept by checkpoint.keep; runs resume by workdir"
NO_WANDB = "experiment trackers are not part of a recipe"
IGNORED = "parsed and never used by the published code"
NO_VIEW = "the published code ignores it where RandAugment is set: labeled views have no jitter"
EVALUATION = "a way to start the published scripts; `semivit eval` does it here"
LOADER = "loading speed (data.threads, data.workers), not what is computed"
PREVIOUS = "the stage before runs in the same run (config.stages), or config.init_from names its workdir"
UNUSED_SWITCH = "switch for an ablation that no recipe turns on; views are fixed as published"
EMA_START = "always so: the teacher starts from the earlier ema_params where there are any"
UNLABELED = "the unlabeled images are the training images that label_list does not name"

ACCOUNTS: dict[str, Account] = {
    # Which recipe it is.
    "name": Carried("log.recipe", lambda v, r: f"{config_file(r)}:{config_arguments(r)}"),
    "source": NotCarried("where the command was published"),
    "section": NotCarried("where the command was published"),
    "script": Carried("stages", lambda v, r: ("finetune", "semi") if is_semi(r) else ("finetune",)),
    "model": Carried("model.variant", lambda v, r: VARIANTS[v]),
    "--model": Carried("model.variant", lambda v, r: VARIANTS[v]),
    "init": Carried("init_from", lambda v, r: _mae_folder(r)),
    "--finetune": Carried("init_from", lambda v, r: _mae_folder(r), lambda r: not is_semi(r), PREVIOUS),
    "--super_finetune": NotCarried(PREVIOUS),
    "--super_finetune_ema": NotCarried(EMA_START),
    "--finetune_ema": NotCarried(EMA_START),
    "published_top1": Carried("stage.published_acc1"),
    "published_top1_which_weights": NotCarried("a remark; params and ema_params are both reported"),
    "flags_given": NotCarried("which of the values were typed and which were defaults; all are carried alike"),
    # Images and labels.
    "label_percent": Carried("data.label_list", lambda v, r: _label_list(r)),
    "--trainindex": Carried("data.label_list", lambda v, r: _label_list(r)),
    "--trainindex_x": Carried("data.label_list", lambda v, r: _label_list(r)),
    "--trainindex_u": NotCarried(UNLABELED),
    "--anno_percent": NotCarried("the share of a random draw; 1.0 in all recipes, which use index files"),
    "--eval_data_path": NotCarried("evaluation reads data.eval_split"),
    "input_size": Carried("data.image_size"),
    "--input_size": Carried("data.image_size"),
    "nb_classes": Carried("plan.num_classes"),
    "--nb_classes": Carried("plan.num_classes"),
    "--imagenet_default_mean_and_std": Carried("data.mean", lambda v, r: (0.485, 0.456, 0.406)),
    # Batch, epochs and devices.
    "nodes": NotCarried(DEVICES),
    "gpus_per_node": NotCarried(DEVICES),
    "n_gpus": Carried("plan.num_devices"),
    "batch_size_per_gpu": Carried("stage.mixup_group_size"),
    "--batch_size": Carried("stage.mixup_group_size"),
    "accum": Carried("stage.accum"),
    "--accum_iter": Carried("stage.accum"),
    "--update_freq": Carried("stage.accum"),
    "effective_labelled_batch": Carried("stage.batch_size"),
    "mu": Carried("stage.unlabeled_ratio", where=is_semi, elsewhere="no unlabeled images"),
    "--mu": Carried("stage.unlabeled_ratio"),
    "effective_unlabelled_batch": Carried("plan.unlabeled_batch", _or_zero),
    "unlabelled_batch_per_gpu_per_forward": Carried("plan.unlabeled_per_device", _or_zero),
    "epochs": Carried("stage.epochs"),
    "--epochs": Carried("stage.epochs"),
    "epoch_counted_in": Carried("plan.epoch_images", lambda v, r: EPOCH_IMAGES[v, r["label_percent"]]),
    "--start_epoch": NotCarried(CHECKPOINTS),
    # Learning rate.
    "blr": Carried("stage.base_lr", where=is_vit, elsewhere="ConvNeXt's flag is --lr"),
    "--blr": Carried("stage.base_lr"),
    "lr_flag": Carried("stage.base_lr", where=lambda r: not is_vit(r), elsewhere="not given: --blr decides"),
    "--lr": Carried("stage.base_lr", where=lambda r: not is_vit(r), elsewhere="not given: --blr decides"),
    "lr_rule": Carried("stage.lr_rule", lambda v, r: "absolute" if "as it is" in v else "per_256"),
    "actual_peak_lr": Carried("plan.peak_lr"),
    "min_lr": Carried("stage.min_lr"),
    "--min_lr": Carried("stage.min_lr"),
    "warmup_epochs": Carried("stage.warmup_epochs"),
    "--warmup_epochs": Carried("stage.warmup_epochs"),
    "--warmup_steps": NotCarried("-1 in all recipes: warmup_epochs decides"),
    "layer_decay": Carried("stage.layer_decay"),
    "--layer_decay": Carried("stage.layer_decay"),
    "--head_lr_scalar": Carried("stage.head_lr_scale"),
    # Optimizer.
    "optimizer": NotCarried("AdamW is the only optimizer"),
    "--opt": NotCarried("AdamW is the only optimizer"),
    "--momentum": NotCarried("for SGD, which no recipe uses"),
    "betas": Carried("stage.betas", lambda v, r: tuple(v)),
    "--opt_betas": Carried("stage.betas", lambda v, r: tuple(v or (0.9, 0.999))),
    "eps": Carried("stage.eps"),
    "--opt_eps": Carried("stage.eps"),
    "weight_decay": Carried("stage.weight_decay"),
    "--weight_decay": Carried("stage.weight_decay"),
    "weight_decay_end": NotCarried("null in all recipes: weight decay is constant"),
    "--weight_decay_end": NotCarried("null in all recipes: weight decay is constant"),
    "clip_grad": Carried("stage.clip_norm", _or_zero),
    "--clip_grad": Carried("stage.clip_norm", _or_zero),
    "model_ema": Carried("stage.ema_decay", lambda v, r: r["model_ema_decay"] if v else 0.0),
    "--model_ema": Carried("stage.ema_decay", lambda v, r: r["model_ema_decay"] if v else 0.0),
    "model_ema_decay": Carried("stage.ema_decay", where=lambda r: r["model_ema"], elsewhere="no average is kept"),
    "--model_ema_decay": Carried("stage.ema_decay", where=lambda r: r["model_ema"], elsewhere="no average is kept"),
    "--model_ema_eval": NotCarried("params and ema_params are both evaluated always"),
    "--model_ema_force_cpu": NotCarried("the average lives with the parameters"),
    "--ema_momentum_decay": NotCarried(IGNORED),
    "amp": Carried("model.dtype", lambda v, r: "auto"),
    "--use_amp": Carried("model.dtype", lambda v, r: "auto"),
    # Model and initialisation.
    "pooling": Carried(
        "model.pool", lambda v, r: "cls" if v and v.startswith("cls") else "mean", is_vit, "ConvNeXt always averages"
    ),
    "--global_pool": Carried("model.pool", lambda v, r: "mean" if v else "cls"),
    "init_scale": Carried("model.head_init_std", lambda v, r: 0.02 * v, is_vit, "ConvNeXt's is head_init_scale"),
    "--init_scale": Carried("model.head_init_std", lambda v, r: 0.02 * v),
    "head_init_scale": Carried("model.head_init_std", lambda v, r: 0.02 * v, lambda r: not is_vit(r), VIT_ONLY),
    "--head_init_scale": Carried("model.head_init_std", lambda v, r: 0.02 * v),
    "layer_scale_init_value": NotCarried("1e-6 in all recipes, fixed by models/convnext.py"),
    "--layer_scale_init_value": NotCarried("1e-6 in all recipes, fixed by models/convnext.py"),
    "use_fixed_pos_emb": Carried("model.posemb", lambda v, r: "sincos" if v else "learned", is_vit, CONV_ONLY),
    "--use_fixed_pos_emb": Carried("model.posemb", lambda v, r: "sincos" if v else "learned"),
    "drop_path": Carried("stage.drop_path_rate"),
    "--drop_path": Carried("stage.drop_path_rate"),
    "disable_x_drop_path": NotCarried(UNUSED_SWITCH),
    "--disable_x_drop_path": NotCarried(UNUSED_SWITCH),
    "drop": NotCarried("0 in all recipes: there is no dropout"),
    "--drop": NotCarried("0 in all recipes: there is no dropout"),
    "attn_drop": NotCarried("0 in all recipes: there is no dropout"),
    "--attn_drop_rate": NotCarried("0 in all recipes: there is no dropout"),
    "--model_key": NotCarried("`semivit import` finds the weights in a published file"),
    "--model_prefix": NotCarried("`semivit import` finds the weights in a published file"),
    # Views.
    "aa": Carried("data.photo_views.randaugment.magnitude", lambda v, r: float(v.split("-")[1].removeprefix("m"))),
    "--aa": Carried(
        "data.photo_views.randaugment.magnitude_std", lambda v, r: float(v.split("-")[2].removeprefix("mstd"))
    ),
    "color_jitter": Carried("data.photo_views.color_jitter", where=is_semi, elsewhere=NO_VIEW),
    "--color_jitter": Carried("data.photo_views.color_jitter", where=is_semi, elsewhere=NO_VIEW),
    "reprob": Carried("stage.erase_prob"),
    "--reprob": Carried("stage.erase_prob"),
    "remode": NotCarried("pixel in all recipes, the only mode of erasing.py"),
    "--remode": NotCarried("pixel in all recipes, the only mode of erasing.py"),
    "recount": NotCarried("1 in all recipes, the only count of erasing.py"),
    "--recount": NotCarried("1 in all recipes, the only count of erasing.py"),
    "--resplit": NotCarried(IGNORED),
    "--train_interpolation": NotCarried(IGNORED),
    "--crop_pct": NotCarried(IGNORED),
    "weak_aa": NotCarried(UNUSED_SWITCH),
    "--weak_aa": NotCarried(UNUSED_SWITCH),
    "weak_no_aug": NotCarried(UNUSED_SWITCH),
    "--weak_no_aug": NotCarried(UNUSED_SWITCH),
    "strong_no_re": NotCarried(UNUSED_SWITCH),
    "--strong_no_re": NotCarried(UNUSED_SWITCH),
    # Mixing and losses.
    "mixup": Carried("stage.mixup_alpha"),
    "--mixup": Carried("stage.mixup_alpha"),
    "cutmix": Carried("stage.cutmix_alpha"),
    "--cutmix": Carried("stage.cutmix_alpha"),
    "cutmix_minmax": NotCarried("null in all recipes: the box follows lambda"),
    "--cutmix_minmax": NotCarried("null in all recipes: the box follows lambda"),
    "mixup_prob": Carried("stage.mixup_prob"),
    "--mixup_prob": Carried("stage.mixup_prob"),
    "mixup_switch_prob": Carried("stage.cutmix_switch_prob"),
    "--mixup_switch_prob": Carried("stage.cutmix_switch_prob"),
    "mixup_mode": NotCarried("batch in all recipes: one draw per mixing group"),
    "--mixup_mode": NotCarried("batch in all recipes: one draw per mixing group"),
    "mixup_func": NotCarried("Mixup in all recipes: mixup.py"),
    "--mixup_func": NotCarried("Mixup in all recipes: mixup.py"),
    "smoothing": Carried("stage.label_smoothing"),
    "--smoothing": Carried("stage.label_smoothing"),
    "labelled_mixup_active": Carried("stage.labeled_mixup"),
    "labelled_loss": Carried("stage.labeled_mixup", lambda v, r: v.startswith("soft-target")),
    "disable_x_mixup": Carried("stage.labeled_mixup", lambda v, r: not v),
    "--disable_x_mixup": Carried("stage.labeled_mixup", lambda v, r: not v),
    # Semi-supervised stage.
    "ema_teacher": Carried("stage.teacher", lambda v, r: "ema" if v else "student"),
    "--ema_teacher": Carried("stage.teacher", lambda v, r: "ema" if v else "student"),
    "lambda_u": Carried("stage.unlabeled_weight"),
    "--lambda_u": Carried("stage.unlabeled_weight"),
    "threshold": Carried("stage.confidence_threshold"),
    "--threshold": Carried("stage.confidence_threshold"),
    "burnin_epochs": NotCarried("0 in all recipes: the teacher labels from the first update"),
    "--burnin_epochs": NotCarried("0 in all recipes: the teacher labels from the first update"),
    "pseudo_mixup": Carried("stage.pseudo_mixup", lambda v, r: "prob" if v else "none"),
    "--pseudo_mixup": Carried("stage.pseudo_mixup", lambda v, r: "prob" if v else "none"),
    "pseudo_mixup_active": Carried("stage.pseudo_mixup", lambda v, r: "prob" if v else "none"),
    "pseudo_mixup_func": Carried("stage.pseudo_mixup", lambda v, r: {"ProbPseudoMixup": "prob"}[v]),
    "--pseudo_mixup_func": Carried("stage.pseudo_mixup", lambda v, r: {"ProbPseudoMixup": "prob"}[v]),
    # How the scripts run.
    "eval_freq": Carried("train.eval_every_epochs"),
    "--eval_freq": Carried("train.eval_every_epochs"),
    "--dist_eval": NotCarried("evaluation is always spread over the devices, padded and masked, exact"),
    "--disable_eval": NotCarried(EVALUATION),
    "--eval": NotCarried(EVALUATION),
    "--seed": Carried("seed"),
    "--print_freq": Carried("log.every_steps"),
    "--resume": NotCarried(CHECKPOINTS),
    "--auto_resume": NotCarried(CHECKPOINTS),
    "--save_ckpt": NotCarried(CHECKPOINTS),
    "--save_ckpt_freq": NotCarried(CHECKPOINTS),
    "--save_ckpt_num": NotCarried(CHECKPOINTS),
    "--num_workers": NotCarried(LOADER),
    "--pin_mem": NotCarried(LOADER),
    "--enable_wandb": NotCarried(NO_WANDB),
    "--wandb": NotCarried(NO_WANDB),
    "--wandb_ckpt": NotCarried(NO_WANDB),
    "--project": NotCarried(NO_WANDB),
    "--model_id": NotCarried(NO_WANDB),
}

NUM_TRAIN, NUM_CLASSES = 1_281_167, 1000
NUM_LABELED = {1: 12_811, 10: 128_116, 100: NUM_TRAIN}  # SimCLR's lists
EPOCH_IMAGES = {
    **{("labelled subset", percent): labeled for percent, labeled in NUM_LABELED.items()},
    **{("unlabelled set", percent): NUM_TRAIN - labeled for percent, labeled in NUM_LABELED.items()},
}

MAE_ACCOUNTS: dict[str, Account] = {
    "source": NotCarried("where the values were published"),
    "models": Carried("model.variant"),  # compared model by model
    "nodes": NotCarried(DEVICES),
    "gpus_per_node": NotCarried(DEVICES),
    "batch_size_per_gpu": Carried("train.max_images_per_device"),
    "accum_iter": Carried("mae.accum"),
    "effective_batch": Carried("mae.batch_size"),
    "epochs": Carried("mae.epochs"),
    "warmup_epochs": Carried("mae.warmup_epochs"),
    "blr": Carried("mae.base_lr"),
    "actual_peak_lr": Carried("plan.peak_lr"),
    "min_lr": Carried("mae.min_lr"),
    "weight_decay": Carried("mae.weight_decay"),
    "betas": Carried("mae.betas", lambda v, r: tuple(v)),
    "eps": Carried("mae.eps"),
    "norm_pix_loss": Carried("mae.norm_pix_loss"),
    "mask_ratio": Carried("mae.mask_ratio"),
    "layer_decay": NotCarried("null: pre-training has one learning rate for all layers"),
    "clip_grad": Carried("mae.clip_norm", _or_zero),
    "augmentation": Carried("data.photo_views.mae_crop_scale", lambda v, r: (0.2, 1.0)),
    "weight_decay_exempt": NotCarried("names, not values: models/mae.py, checked by the golden parameter tables"),
    "schedule": Carried("mae.schedule", lambda v, r: "cosine"),
    "published_checkpoints": NotCarried("a remark on files; `semivit import` reads them"),
}
