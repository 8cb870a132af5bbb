"""Recipe of every cell of the study: `--config=benchmarks/study/recipe.py:size=small,seed=0`, and the row's keys.

Argument size: a row of benchmarks/study/sizes.py. `benchmarks.study` adds stages, weights to start from and images.
"""

from ml_collections import ConfigDict

from benchmarks.study.sizes import SIZES, Size, Supervised
from semivit_jax.configs import _arguments, _base


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, size="small", seed=0)
    if args.size not in SIZES:
        raise ValueError(f"config argument size={args.size}: legal values are {', '.join(SIZES)}")
    size = SIZES[args.size]
    return ConfigDict(
        dict(
            seed=args.seed,
            stages=("finetune",),
            init_from="",
            data=_base.photo_data(
                dataset="own_folder",
                train_split="train",
                eval_split="validation",
                labels_per_class=size.labels,
                image_size=32,
                eval_crop_fraction=1.0,
                mean=(0.4914, 0.4822, 0.4465),
                std=(0.2470, 0.2435, 0.2616),
                photo_views=_base.photo_views(crop_scale=(0.4, 1.0), mae_crop_scale=(0.4, 1.0), color_jitter=0.2),
            ),
            model=_base.vit(variant=size.model, unroll=size.unroll),
            mae=_mae(size),
            finetune=_base.supervised(**_stage(size.finetune), mixup_group_size=2),
            semi=_base.semi(
                **_stage(size.semi),
                mixup_group_size=min(16, size.semi.batch_size),
                unlabeled_ratio=size.unlabeled_ratio,
                unlabeled_weight=5.0,
                confidence_threshold=size.thresholds[0],
            ),
            **_running(args.size),
        )
    )


def _mae(size: Size) -> dict:
    width, depth, heads = size.decoder
    return _base.mae(
        batch_size=size.mae_batch,
        epochs=size.mae_epochs,
        warmup_epochs=size.mae_epochs / 10,
        base_lr=1e-3,
        lr_rule="absolute",
        decoder_width=width,
        decoder_depth=depth,
        decoder_num_heads=heads,
    )


def _stage(stage: Supervised) -> dict:
    return dict(
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        warmup_epochs=stage.epochs / 10,
        base_lr=stage.peak_lr,
        lr_rule="absolute",
        ema_decay=stage.ema_decay,
        labeled_mixup=False,
        erase_prob=0.0,
        drop_path_rate=0.0,
        layer_decay=0.75,
    )


def _running(size: str) -> dict:
    """Evaluates at the last step alone, and stops no cell for what its accuracy does: that is what is asked."""
    running = _base.running(
        recipe=f"study:size={size}",
        origin="ours",
        eval_every_epochs=1e6,
        max_images_per_device=0,
        save_every_steps=200,
    )
    running["train"] |= dict(collapse_mask_rate_share=0.0, collapse_accuracy_share=0.0)
    running["log"] |= dict(writers=("jsonl",), tensorboard=False)
    return running
