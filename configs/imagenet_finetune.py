"""Supervised fine-tuning on 1 %, 10 % or 100 % of ImageNet's labels, after MAE or from scratch.

semivit train --config=configs/imagenet_finetune.py:model=vit_b16,labels=1pct --workdir=runs/finetune
semivit train --config=configs/imagenet_finetune.py:model=convnext_tiny,labels=10pct,init=scratch --workdir=runs/conv

Arguments: model=vit_b16, labels=1pct|10pct|100pct, init=mae|scratch; a row of the table below each, with the
top-1 accuracy it should reach. docs/recipes.md tells what each costs.

Needs
- TFDS imagenet2012 in array_record (`semivit prepare`);
- the SimCLR list of labeled files (github.com/google-research/simclr, folder imagenet_subsets) as
  imagenet_subsets/1percent.txt or 10percent.txt under the current folder, or `--config.data.label_list=FILE`.
  Without a list, a balanced draw: `--config.data.label_list= --config.data.label_fraction=0.01`;
- for init=mae the encoder, as `semivit import mae_pretrain_vit_base.pth --out weights/mae_vit_b16`
  writes it, or `--config.init_from=` with such a folder or the workdir of configs/imagenet_mae.py.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base, _imagenet


class Row(NamedTuple):
    batch_size: int
    mixup_group_size: int  # the published batch per GPU
    epochs: float
    warmup_epochs: float
    base_lr: float
    layer_decay: float
    drop_path_rate: float
    labeled_mixup: bool
    erase_prob: float
    ema_decay: float
    published_acc1: float


PUBLISHED = {
    #                                   batch group epochs warm base_lr layer drop  mixup  erase   ema     acc1
    ("vit_b16", "1pct", "mae"):      Row(512, 64, 100.0, 5.0, 5e-5,   0.65, 0.0, False, 0.0,  0.0,    57.4),
    ("vit_b16", "10pct", "mae"):     Row(512, 64, 100.0, 5.0, 2.5e-4, 0.65, 0.1, True,  0.25, 0.0,    73.7),
    ("vit_l16", "1pct", "mae"):      Row(512, 64, 50.0,  5.0, 1e-3,   0.75, 0.0, False, 0.0,  0.0,    67.1),
    ("vit_l16", "10pct", "mae"):     Row(512, 64, 50.0,  5.0, 1e-3,   0.75, 0.1, True,  0.25, 0.0,    79.2),
    ("vit_h14", "1pct", "mae"):      Row(128, 16, 50.0,  5.0, 1e-2,   0.75, 0.0, False, 0.0,  0.0,    71.5),
    ("vit_h14", "10pct", "mae"):     Row(128, 16, 50.0,  5.0, 1e-3,   0.75, 0.2, True,  0.25, 0.9998, 81.4),
    ("vit_b16", "10pct", "scratch"): Row(1024, 128, 500.0, 50.0, 1e-4, 1.0, 0.1, True,  0.25, 0.9999, 57.0),
    ("convnext_tiny", "10pct", "scratch"): Row(1024, 128, 500.0, 50.0, 1e-3, 1.0, 0.1, True, 0.25, 0.9999, 61.2),
}  # fmt: skip

# Accuracies published without a command. 100 % follows He et al. 2022, table 9; ViT-S repeats ViT-B's row,
# ConvNeXt-S repeats ConvNeXt-T's with the drop path of its own paper (Liu et al. 2022, table 5).
OURS = {
    ("vit_b16", "100pct", "mae"):    Row(1024, 64, 100.0, 5.0, 1e-3,  0.75, 0.1, True,  0.25, 0.0,    83.7),
    ("vit_l16", "100pct", "mae"):    Row(1024, 64, 50.0, 5.0, 1e-3,   0.75, 0.1, True,  0.25, 0.0,    86.0),
    ("vit_h14", "100pct", "mae"):    Row(1024, 16, 50.0, 5.0, 1e-3,   0.75, 0.2, True,  0.25, 0.0,    86.9),
    ("vit_s16", "10pct", "scratch"): Row(1024, 128, 500.0, 50.0, 1e-4, 1.0, 0.1, True,  0.25, 0.9999, 56.2),
    ("convnext_small", "10pct", "scratch"): Row(1024, 128, 500.0, 50.0, 1e-3, 1.0, 0.4, True, 0.25, 0.9999, 64.1),
}  # fmt: skip

ROWS = PUBLISHED | OURS

# What the rows of a family have in common, where it differs from fine-tuning a ViT after MAE.
SCRATCH_VIT = dict(betas=(0.9, 0.95), weight_decay=0.3)
CONVNEXT = dict(lr_rule="absolute", schedule="cosine_inclusive_warmup")
UNMIXED = dict(mixup_alpha=0.0, cutmix_alpha=0.0)


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, model="vit_b16", labels="1pct", init="mae")
    key = _imagenet.find(ROWS, args)
    return ConfigDict(
        dict(
            seed=0,
            stages=("finetune",),
            init_from=_imagenet.init_from(args.model, args.init),
            data=_imagenet.data(args.labels),
            model=_imagenet.model(args.model, args.init),
            finetune=stage(key),
            **_base.running(
                recipe=_imagenet.name("imagenet_finetune", key),
                origin="published" if key in PUBLISHED else "ours",
                eval_every_epochs=5.0,
                max_images_per_device=_imagenet.MODELS[args.model].max_images_per_device,
                save_every_steps=500,
            ),
        )
    )


def stage(key: _imagenet.Key) -> dict[str, Any]:
    """Section `finetune` of a row."""
    model, _, init = key
    row = ROWS[key]
    family = CONVNEXT if _imagenet.is_convnext(model) else SCRATCH_VIT if init == "scratch" else {}
    return _base.supervised(**row._asdict(), **family, **({} if row.labeled_mixup else UNMIXED))
