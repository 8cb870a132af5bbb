"""Recipe of every cell of the study: `--config=benchmarks/study/recipe.py:size=small,seed=0`, and the row's keys.

Argument size: a row of benchmarks/study/sizes.py. `benchmarks.study` adds stages, weights to start from and images.
"""

from typing import Any

from ml_collections import ConfigDict

from benchmarks.study.sizes import SIZES, Frozen, Scratch, Size, Supervised
from semivit_jax.configs import _arguments, _base


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, size="small", seed=0)
    if args.size not in SIZES:
        raise ValueError(f"config argument size={args.size}: legal values are {', '.join(SIZES)}")
    size = SIZES[args.size]
    network = size.network
    sections = _on_features(size, network) if isinstance(network, Frozen) else _from_scratch(size, network)
    return ConfigDict(dict(seed=args.seed, stages=("finetune",), init_from="", **sections, **_running(args.size, size)))


def _from_scratch(size: Size, network: Scratch) -> dict[str, Any]:
    """A small ViT on the photographs as they are; of mixing, labeled images have none."""
    plain = dict(labeled_mixup=False, erase_prob=0.0, drop_path_rate=0.0, layer_decay=0.75)
    return dict(
        data=_data(
            labels_per_class=size.labels,
            image_size=32,
            eval_crop_fraction=1.0,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            photo_views=_base.photo_views(crop_scale=(0.4, 1.0), mae_crop_scale=(0.4, 1.0), color_jitter=0.2),
        ),
        model=_base.vit(variant=network.model, unroll=network.unroll),
        mae=_mae(network),
        finetune=_base.supervised(**_stage(size.finetune), **plain, mixup_group_size=2),
        semi=_base.semi(**_stage(size.semi), **plain, **_third(size), mixup_group_size=min(16, size.semi.batch_size)),
    )


def _on_features(size: Size, network: Frozen) -> dict[str, Any]:
    """As `own_folder` trains a head on features; the weights decide the model and how it sees images.

    Which images have labels, a list says, not the seed: that draws the views, which all cells share.
    """
    plain = dict(labeled_mixup=False, erase_prob=0.0, drop_path_rate=0.0, label_smoothing=0.0, layer_decay=1.0)
    return dict(
        data=_data(photo_views=_base.photo_views(crop_scale=(0.5, 1.0)), cache_features=network.views),
        model=_base.vit(variant="dinov2_s14", head_init="probe", tune="head"),
        finetune=_base.supervised(**_stage(size.finetune), **plain, mixup_group_size=2),
        semi=_base.semi(**_stage(size.semi), **plain, **_third(size), mixup_group_size=8),
    )


def _data(**varies: Any) -> dict[str, Any]:
    return _base.photo_data(dataset="own_folder", train_split="train", eval_split="validation", **varies)


def _mae(network: Scratch) -> dict[str, Any]:
    width, depth, heads = network.decoder
    return _base.mae(
        batch_size=network.mae_batch,
        epochs=network.mae_epochs,
        warmup_epochs=network.mae_epochs / 10,
        base_lr=1e-3,
        lr_rule="absolute",
        decoder_width=width,
        decoder_depth=depth,
        decoder_num_heads=heads,
    )


def _stage(stage: Supervised) -> dict[str, Any]:
    return dict(
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        warmup_epochs=stage.epochs / 10,
        base_lr=stage.peak_lrs[0],
        lr_rule="absolute",
        ema_decay=stage.ema_decay,
    )


def _third(size: Size) -> dict[str, Any]:
    return dict(unlabeled_ratio=size.unlabeled_ratio, unlabeled_weight=5.0, confidence_threshold=size.thresholds[0])


def _running(name: str, size: Size) -> dict[str, Any]:
    """Evaluates at the last step alone, and stops no cell for what its accuracy does: that is what is asked."""
    running = _base.running(
        recipe=f"study:size={name}",
        origin="ours",
        eval_every_epochs=1e6,
        max_images_per_device=0,
        save_every_steps=200,
    )
    running["train"] |= dict(collapse_mask_rate_share=0.0, collapse_accuracy_share=0.0)
    running["log"] |= dict(writers=("jsonl",), tensorboard=False, report=False)
    if isinstance(size.network, Frozen):
        running["train"]["eval_batch_size"] = 128  # images of a forward pass through what is large
        running["checkpoint"]["save_every_steps"] = 1000  # seconds of updates, and what is saved is the whole network
    return running
