"""Semi-ViT on scikit-learn's handwritten digits: the demo, all three stages on two CPU cores.

semivit train --config=configs/digits.py --workdir=runs/digits
semivit train --config=configs/digits.py:labels_per_class=1,seed=3 --workdir=runs/digits_1
"""

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, labels_per_class=4, seed=0)
    adamw = dict(min_updates=0, accum=1, lr_rule="per_256", schedule="cosine", eps=1e-8, weight_decay=0.05,
                 clip_norm=0.0)  # fmt: skip
    light = dict(degrees=5.0, shift=0.0625, scale=(0.95, 1.05), shear=0.05)
    strong = dict(degrees=12.0, shift=0.08, scale=(0.9, 1.1), shear=0.15)
    wide = dict(degrees=20.0, shift=0.125, scale=(0.86, 1.16), shear=0.25)
    supervised = dict(
        adamw,
        batch_size=40,
        betas=(0.9, 0.999),
        drop_path_rate=0.0,
        min_lr=0.0,
        label_smoothing=0.1,
        labeled_loss="plain",
        balance_beta=0.999,
        adjust_tau=1.0,
        balanced_order=False,
        labeled_mixup=False,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        mixup_prob=1.0,
        cutmix_switch_prob=0.5,
        mixup_group_size=10,
        erase_prob=0.0,
        head_lr_scale=1.0,
        published_acc1=0.0,
    )
    return ConfigDict(
        dict(
            seed=args.seed,
            stages=("mae", "finetune", "semi"),
            init_from="",
            data=dict(
                dataset="digits",
                data_dir="",
                root="",
                labels="",
                keep_none=False,
                renamed="",
                train_split="train",
                eval_split="test",
                labels_per_class=args.labels_per_class,
                label_fraction=0.0,
                label_list="",
                validation_share=0.0,
                image_size=8,
                eval_crop_fraction=1.0,
                interpolation="bicubic",
                mean=(0.305, 0.305, 0.305),
                std=(0.376, 0.376, 0.376),
                affine_views=dict(mae=light, labeled=wide, weak=light, strong=strong),
                exif_rotation=False,
                max_pixels=10_000,
                max_bad_share=0.0,
                threads=0,
                workers=0,
                prefetch_batches=2,
                cache_features=0,
            ),
            model=dict(
                variant="vit_digits4",
                pool="mean",
                posemb="learned",
                head="linear",
                head_init_std=2e-5,
                head_init="random",
                layer_norm_eps=1e-6,
                dtype="float32",
                attention="xla",
                remat="none",
                unroll=4,
                tune="all",
                lora_kind="low_rank",
                lora_rank=8,
                lora_alpha=16.0,
                bottleneck_scale=0.1,
                lora_matrices="attention",
            ),
            mae=dict(
                adamw,
                epochs=30.0,
                batch_size=64,
                base_lr=8e-3,
                min_lr=0.0,
                warmup_epochs=3.0,
                betas=(0.9, 0.95),
                mask_ratio=0.5,  # of 4 patches; 0.75 leaves too little of a digit
                norm_pix_loss=True,
                decoder_width=32,
                decoder_depth=1,
                decoder_num_heads=2,
            ),
            finetune=dict(
                supervised,
                batch_size=min(40, 10 * args.labels_per_class),  # an update never holds an image twice
                epochs=300.0,
                base_lr=1.6e-3,
                lr_rule="absolute",
                warmup_epochs=30.0,
                layer_decay=0.75,
                ema_decay=0.98,
            ),
            semi=dict(
                supervised,
                epochs=100.0,
                base_lr=3e-2,
                warmup_epochs=10.0,
                layer_decay=0.9,
                ema_decay=0.99,
                unlabeled_ratio=5,
                unlabeled_weight=5.0,
                teacher="ema",
                pseudo_label_rule="fixed",
                outliers="none",
                bank="",
                confidence_threshold=0.7,
                pseudo_mixup="prob",
                rule=_base.rule(),
            ),
            train=dict(
                eval_every_epochs=25.0,
                eval_batch_size=360,
                max_images_per_device=0,
                lower_batch_to_fit=False,
                deterministic=False,
                compilation_cache=True,
                agree_every_steps=10,
                hang_minutes=30.0,
                max_nonfinite_in_a_row=10,
                collapse_window_steps=50,
                collapse_mask_rate_share=0.1,
                collapse_accuracy_share=0.5,
                on_collapse="stop",
                max_rollbacks=3,
            ),
            mesh=dict(
                fsdp=1,
                coordinator_address="",
                num_processes=-1,
                process_id=-1,
                coordinator_timeout_seconds=300.0,
            ),
            checkpoint=dict(save_every_steps=300, keep=2),
            log=dict(
                every_steps=20,
                writers=("jsonl", "tensorboard"),
                tensorboard=True,
                profile_at=0,
                profile_steps=5,
                report=True,
                recipe="digits",
                origin="ours",
            ),
        )
    )
