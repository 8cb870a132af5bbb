"""MAE pre-training on ImageNet without labels, 800 epochs (He et al. 2022, table 8).

semivit train --config=configs/imagenet_mae.py:model=vit_b16 --workdir=runs/mae_vit_b16

model=vit_b16|vit_l16|vit_h14. Needs TFDS imagenet2012 in array_record (`semivit prepare`). Costs 1,022 million
images at a quarter of the patches; published on 64 GPUs. What it should reach is told by what starts from it:
pass `--config.init_from=runs/mae_vit_b16` to configs/imagenet_finetune.py or configs/imagenet_semi.py.
"""

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base, _imagenet

MODELS = ("vit_b16", "vit_l16", "vit_h14")


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, model="vit_b16")
    if args.model not in MODELS:
        raise ValueError(f"config argument model={args.model}: legal values are {', '.join(MODELS)}")
    return ConfigDict(
        dict(
            seed=0,
            stages=("mae",),
            init_from="",
            data=_imagenet.data("100pct"),  # labels are read by no one here
            model=_imagenet.model(args.model, "mae"),
            mae=_base.mae(batch_size=4096, epochs=800.0),
            **_base.running(
                recipe=f"imagenet_mae:model={args.model}",
                origin="published",
                eval_every_epochs=800.0,
                max_images_per_device=64,  # as published
                save_every_steps=1000,
            ),
        )
    )
