"""Semi-ViT on ImageNet: fine-tuning on 1 % or 10 % of the labels, then all images with an EMA teacher.

semivit train --config=configs/imagenet_semi.py:model=vit_b16,labels=1pct --workdir=runs/semi
semivit train --config=configs/imagenet_semi.py:model=convnext_tiny,labels=10pct,init=scratch --workdir=runs/conv_semi

Arguments: model=vit_b16, labels=1pct|10pct, init=mae|scratch; a row of the table below each, with the top-1
accuracy it should reach. Both stages run, the first one as the same row of configs/imagenet_finetune.py; that file
says which data, label list and weights are needed. To start from a finished fine-tuning instead:
`--config.stages="('semi',)" --config.init_from=runs/finetune`. docs/recipes.md tells what each row costs.

The paper's comparisons: `--config.semi.teacher=student` (FixMatch), `--config.semi.pseudo_mixup=none|mixup|
mixup_confident`. ViT-B 1 %: fine-tuning 57.4, EMA teacher 65.3, with probabilistic pseudo mixup 71.0.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base, _imagenet, imagenet_finetune


class Row(NamedTuple):
    batch_size: int  # labeled images; five times as many unlabeled ones
    accum: int
    mixup_group_size: int  # the published labeled batch per GPU and micro-step
    epochs: float  # of the unlabeled images
    warmup_epochs: float
    base_lr: float
    layer_decay: float
    drop_path_rate: float
    labeled_mixup: bool
    erase_prob: float
    unlabeled_weight: float
    confidence_threshold: float
    published_acc1: float


PUBLISHED = {
    #                                   batch a. group epochs warm base_lr layer drop mixup erase weight tau acc1
    ("vit_b16", "1pct", "mae"):      Row(128, 1, 16, 100.0, 5.0, 1e-3,   0.75, 0.0,  False, 0.0,  5.0, 0.6, 71.0),
    ("vit_b16", "10pct", "mae"):     Row(128, 1, 16, 100.0, 5.0, 1e-3,   0.75, 0.1,  True,  0.25, 5.0, 0.5, 79.7),
    ("vit_l16", "1pct", "mae"):      Row(128, 1, 8,  100.0, 5.0, 1e-3,   0.75, 0.1,  True,  0.25, 5.0, 0.6, 77.3),
    ("vit_l16", "10pct", "mae"):     Row(128, 1, 8,  100.0, 5.0, 2e-3,   0.75, 0.2,  True,  0.25, 5.0, 0.6, 83.3),
    ("vit_h14", "1pct", "mae"):      Row(64,  1, 2,  50.0,  5.0, 5e-3,   0.75, 0.05, True,  0.25, 5.0, 0.7, 80.0),
    ("vit_h14", "10pct", "mae"):     Row(128, 2, 2,  50.0,  5.0, 2.5e-3, 0.75, 0.1,  True,  0.25, 5.0, 0.6, 84.3),
    ("vit_b16", "10pct", "scratch"): Row(128, 1, 16, 100.0, 5.0, 1e-3,   0.85, 0.1,  True,  0.25, 5.0, 0.5, 73.5),
    ("convnext_tiny", "10pct", "scratch"): Row(128, 1, 16, 100.0, 10.0, 1e-3, 1.0, 0.1, True, 0.25, 10.0, 0.7, 74.1),
}  # fmt: skip

# Accuracies published without a command: ViT-S repeats ViT-B's row, ConvNeXt-S ConvNeXt-T's, each with the
# drop path of its own fine-tuning.
OURS = {
    ("vit_s16", "10pct", "scratch"): Row(128, 1, 16, 100.0, 5.0, 1e-3,   0.85, 0.1,  True,  0.25, 5.0, 0.5, 70.9),
    ("convnext_small", "10pct", "scratch"): Row(128, 1, 16, 100.0, 10.0, 1e-3, 1.0, 0.4, True, 0.25, 10.0, 0.7, 75.1),
}  # fmt: skip

ROWS = PUBLISHED | OURS
CONVNEXT = dict(schedule="cosine_inclusive_warmup")


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, model="vit_b16", labels="1pct", init="mae")
    key = _imagenet.find(ROWS, args)
    return ConfigDict(
        dict(
            seed=0,
            stages=("finetune", "semi"),
            init_from=_imagenet.init_from(args.model, args.init),
            data=_imagenet.data(args.labels),
            model=_imagenet.model(args.model, args.init),
            finetune=imagenet_finetune.stage(key),
            semi=stage(key),
            **_base.running(
                recipe=_imagenet.name("imagenet_semi", key),
                origin="published" if key in PUBLISHED else "ours",
                eval_every_epochs=1.0,
                max_images_per_device=_imagenet.MODELS[args.model].max_images_per_device,
                save_every_steps=500,
            ),
        )
    )


def stage(key: _imagenet.Key) -> dict[str, Any]:
    """Section `semi` of a row."""
    return _base.semi(**ROWS[key]._asdict(), **(CONVNEXT if _imagenet.is_convnext(key[0]) else {}))
