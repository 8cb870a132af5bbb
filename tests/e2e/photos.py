"""What makes the recipes on image folders quick: a two-block model on 32 pixels, and a few steps of each stage."""

SMALL = {
    "model.variant": "vit_test2", "data.image_size": 32,
    "mae.batch_size": 16, "mae.epochs": 2.0, "mae.warmup_epochs": 0.5,
    "mae.decoder_width": 32, "mae.decoder_depth": 1, "mae.decoder_num_heads": 2,
    "finetune.batch_size": 8, "finetune.mixup_group_size": 4, "finetune.epochs": 2.0, "finetune.warmup_epochs": 0.5,
    "semi.batch_size": 4, "semi.mixup_group_size": 2, "semi.unlabeled_ratio": 2, "semi.epochs": 1.0,
    "finetune.min_updates": 0, "semi.min_updates": 0,
    "semi.warmup_epochs": 0.2, "semi.confidence_threshold": 0.3,
    "train.eval_every_epochs": 1.0, "train.eval_batch_size": 32, "train.max_images_per_device": 0,
    "checkpoint.save_every_steps": 2, "log.every_steps": 1, "log.tensorboard": False, "log.report": False,
}  # fmt: skip
