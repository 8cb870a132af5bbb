"""The recipe own_folder, made small: 32 pixels, three blocks, a few minutes on two CPU cores. For docs/tutorial.md.

semivit train --config=tutorial/small.py --config.data.root=PHOTOS --config.data.labels=labels.csv --workdir=runs/mine

Good for seeing every step once. Its accuracies say nothing about what the method reaches on your photos.
"""

from ml_collections import ConfigDict

from semivit_jax.configs import own_folder


def get_config(text: str = "") -> ConfigDict:
    config = own_folder.get_config(text)
    config.model.variant = "vit_test"  # three blocks of width 48, patches of 8 pixels
    config.data.image_size = 32
    config.data.photo_views.crop_scale = (0.5, 1.0)  # less of so small a photo shows nothing
    config.train.max_images_per_device = 0  # all at once
    config.train.eval_every_epochs = 20.0
    config.mae.update(batch_size=32, epochs=120.0, warmup_epochs=12.0, base_lr=5e-3,
                      decoder_width=32, decoder_depth=1, decoder_num_heads=2)  # fmt: skip
    # What makes labeled images harder pays in long training alone.
    for stage in (config.finetune, config.semi):
        stage.update(labeled_mixup=False, erase_prob=0.0, drop_path_rate=0.0, base_lr=1.6e-2)
    config.finetune.update(epochs=200.0, warmup_epochs=20.0)
    # The average is over about 30 of 100 updates.
    config.semi.update(epochs=100.0, ema_decay=0.97, base_lr=4e-3, unlabeled_weight=2.0, confidence_threshold=0.8)
    config.log.update(recipe="small", tensorboard=False)
    return config
