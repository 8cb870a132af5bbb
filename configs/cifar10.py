"""Semi-ViT on CIFAR-10 with 40, 250 or 4,000 labels, from nothing, on one GPU.

semivit train --config=configs/cifar10.py:labels=40 --workdir=runs/cifar10
semivit train --config=configs/cifar10.py:labels=40,init_from=runs/cifar10_mae,teacher=student,pseudo_mixup=none \\
  --workdir=runs/cifar10_fixmatch

Reads TFDS cifar10, or class folders of image files under ROOT/train and ROOT/test:
`--config.data.dataset=own_folder --config.data.root=ROOT`.

Arguments: labels=40|250|4000; seed=0 (also draws the labeled images); teacher=ema|student;
pseudo_mixup=prob|none|mixup|mixup_confident; init_from=WORKDIR of a run with `--config.stages="('mae',)"`, so that
comparisons share one pre-training. Ours; docs/recipes.md tells what it costs.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base


class Row(NamedTuple):
    """The fewer labels, the smaller the fine-tuning batch: each of its updates sees different images."""

    labels_per_class: int
    batch_size: int
    mixup_group_size: int
    epochs: float


FINETUNE = {
    40: Row(4, 40, 10, 500.0),
    250: Row(25, 250, 10, 500.0),
    4000: Row(400, 400, 50, 100.0),
}


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, labels=40, seed=0, teacher="ema", pseudo_mixup="prob", init_from="")
    if args.labels not in FINETUNE:
        raise ValueError(f"config argument labels={args.labels}: legal values are {', '.join(map(str, FINETUNE))}")
    row = FINETUNE[args.labels]
    mixed = dict(labeled_mixup=True, erase_prob=0.25, drop_path_rate=0.1, layer_decay=0.75)
    return ConfigDict(
        dict(
            seed=args.seed,
            stages=_base.stages_from(args.init_from),
            init_from=args.init_from,
            data=_base.photo_data(
                dataset="cifar10",
                train_split="train",
                eval_split="test",
                labels_per_class=row.labels_per_class,
                image_size=32,
                eval_crop_fraction=1.0,
                mean=(0.4914, 0.4822, 0.4465),
                std=(0.2470, 0.2435, 0.2616),
                # 32 pixels leave little to crop away.
                photo_views=_base.photo_views(crop_scale=(0.4, 1.0), mae_crop_scale=(0.4, 1.0), color_jitter=0.2),
            ),
            model=_base.vit(variant="vit_s4"),
            mae=_base.mae(batch_size=1024, epochs=800.0, decoder_width=192, decoder_depth=4, decoder_num_heads=6),
            finetune=_base.supervised(
                **mixed,
                batch_size=row.batch_size,
                mixup_group_size=row.mixup_group_size,
                epochs=row.epochs,
                warmup_epochs=row.epochs / 10,
                base_lr=1e-3,
                ema_decay=0.99,
            ),
            semi=_base.semi(
                **mixed,
                batch_size=64,
                mixup_group_size=16,
                epochs=100.0,
                warmup_epochs=5.0,
                base_lr=1e-3,
                ema_decay=0.999,
                unlabeled_ratio=7,  # as FixMatch (Sohn et al. 2020, table 4), and its threshold
                confidence_threshold=0.95,
                unlabeled_weight=5.0,
                teacher=args.teacher,
                pseudo_mixup=args.pseudo_mixup,
            ),
            **_base.running(
                recipe=f"cifar10:labels={args.labels},teacher={args.teacher},pseudo_mixup={args.pseudo_mixup}",
                origin="ours",
                eval_every_epochs=10.0,
                max_images_per_device=2048,
                save_every_steps=1000,
            ),
        )
    )
