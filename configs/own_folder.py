"""Your own folder of images, a few of them labeled.

semivit import hf://timm/vit_base_patch16_224.mae --out weights/mae_vit_b16
semivit train --config=configs/own_folder.py:init_from=weights/mae_vit_b16 --workdir=runs/mine \\
  --config.data.root=PHOTOS --config.data.labels=labels.csv

labels.csv has the columns path,label. Without it, the images in PHOTOS/CLASS/*.jpg are labeled; all others are
unlabeled. About a fifth of the labeled images is kept back for validation. Arguments: init_from=FOLDER of imported
weights or of another run, which decide the model and what its images look like; model=vit_s16|vit_b16|vit_l16|...,
by default that of the weights, without any vit_b16. A batch that your images do not fill is lowered, and the learning
rate with it; however few there are, a stage makes 200 (semi: 300) updates. The run says so.

With init_from, the head starts from a linear classifier on frozen features, which the run tells the accuracy of.

Without init_from, MAE pre-training on all images comes first; that pays from about 10,000 images on, and below
that imported weights are the better start. Ours: nobody has published an accuracy for your images.
"""

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base

# Images of one forward pass on one device with 24 GB; more are accumulated. Of other models that weights bring along:
# the fewest.
MAX_IMAGES_PER_DEVICE = _base.per_size(small=128, base=48, large=24, huge=12, giant=12)


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, model="", init_from="")
    variant = args.model or _base.model_of(args.init_from, "vit_b16")
    if args.model and args.model not in MAX_IMAGES_PER_DEVICE:
        raise ValueError(f"config argument model={args.model}: legal values are {', '.join(MAX_IMAGES_PER_DEVICE)}")
    # The published mixing, erasing and crops from 8 % need long training: fine-tuning from good weights in 60 updates
    # ended 4 points lower with them at 4 labels per class, 3 at 10 (docs/weights.md, "Chosen for few labels").
    gentle = dict(labeled_mixup=False, erase_prob=0.0, drop_path_rate=0.0, label_smoothing=0.0)
    mixed = dict(labeled_mixup=True, erase_prob=0.25, drop_path_rate=0.1)
    return ConfigDict(
        dict(
            seed=0,
            stages=_base.stages_from(args.init_from),
            init_from=args.init_from,
            data=_base.photo_data(
                dataset="own_folder",
                train_split="",  # the root itself
                eval_split="",
                validation_share=0.2,
                exif_rotation=True,
                photo_views=_base.photo_views(crop_scale=(0.5, 1.0)),
                max_bad_share=0.1,  # two broken photos of thirty labeled ones shall not end a run
            ),
            model=_base.vit(variant=variant, head_init="probe"),
            mae=_base.mae(batch_size=512, epochs=400.0),
            finetune=_base.supervised(
                **gentle,
                mixup_group_size=8,
                layer_decay=0.9,  # a point or more above the published 0.75 from 4 to 40 labels per class, same page
                batch_size=32,
                epochs=100.0,
                min_updates=200,
                warmup_epochs=5.0,
                base_lr=1e-3,
                ema_decay=0.0,
            ),
            semi=_base.semi(
                **mixed,
                mixup_group_size=8,
                layer_decay=0.75,
                batch_size=16,
                epochs=50.0,
                min_updates=300,
                warmup_epochs=5.0,
                base_lr=1e-3,
                ema_decay=0.999,
                unlabeled_weight=5.0,
                confidence_threshold=0.7,
            ),
            **_base.running(
                recipe=f"own_folder:model={variant}",
                origin="ours",
                eval_every_epochs=5.0,
                max_images_per_device=MAX_IMAGES_PER_DEVICE.get(variant, min(MAX_IMAGES_PER_DEVICE.values())),
                save_every_steps=200,
                lower_batch_to_fit=True,
            ),
        )
    )
