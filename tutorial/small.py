"""The recipe own_folder, made small: 32 pixels, three blocks, a few minutes on two CPU cores. For docs/tutorial.md.

semivit train --config=tutorial/small.py --config.data.root=PHOTOS --config.data.labels=labels.csv --workdir=runs/mine

Good for seeing every step once. Its accuracies say nothing about what the method reaches on your photos.
"""

from ml_collections import ConfigDict

from semivit_jax.configs import own_folder

SMALL = {
    "model.variant": "vit_test",  # three blocks of width 48, patches of 8 pixels
    "data.image_size": 32,
    "data.photo_views.crop_scale": (0.5, 1.0),  # less of so small a photo shows nothing
    "mae.batch_size": 32,
    "mae.epochs": 120.0,
    "mae.warmup_epochs": 12.0,
    "mae.base_lr": 5e-3,
    "mae.decoder_width": 32,
    "mae.decoder_depth": 1,
    "mae.decoder_num_heads": 2,
    "finetune.epochs": 200.0,
    "finetune.min_updates": 0,
    "finetune.warmup_epochs": 20.0,
    "finetune.base_lr": 1.6e-2,
    "finetune.layer_decay": 0.75,
    "semi.epochs": 100.0,
    "semi.min_updates": 0,
    "semi.base_lr": 4e-3,
    "semi.ema_decay": 0.97,  # an average over about 30 of 100 updates
    "semi.unlabeled_weight": 2.0,
    "semi.confidence_threshold": 0.9,  # few pseudo labels: those of a network that has learned little are often wrong
    "train.max_images_per_device": 0,  # all at once
    "train.eval_every_epochs": 20.0,
    "log.tensorboard": False,
    "log.recipe": "small",
}
# What makes labeled images harder pays in long training alone, and is off.
EASIER = {"labeled_mixup": False, "erase_prob": 0.0, "drop_path_rate": 0.0}


def get_config(text: str = "") -> ConfigDict:
    config = own_folder.get_config(text)
    easier = {f"{stage}.{key}": value for stage in ("finetune", "semi") for key, value in EASIER.items()}
    config.update_from_flattened_dict(SMALL | easier)
    return config
