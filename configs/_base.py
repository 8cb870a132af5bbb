"""What the recipes on photographs share. A recipe spells out what varies; these are the values that do not."""

import contextlib
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def photo_data(**varies: Any) -> dict[str, Any]:
    """Section `data` with the published views (RandAugment m9-mstd0.5-inc1, jitter 0.4), at 224 pixels."""
    shared = dict(
        data_dir="",
        root="",
        labels="",
        keep_none=False,
        renamed="",
        labels_per_class=0,
        label_fraction=0.0,
        label_list="",
        validation_share=0.0,
        image_size=224,
        eval_crop_fraction=0.875,  # 224 of 256
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        photo_views=photo_views(),
        exif_rotation=False,
        max_pixels=90_000_000,
        max_bad_share=0.001,
        threads=0,
        workers=0,
        prefetch_batches=2,
        cache_features=0,
    )
    return shared | varies


def photo_views(**varies: Any) -> dict[str, Any]:
    """Section `data.photo_views` as published; MAE's crops are larger (He et al. 2022, A.1)."""
    shared = dict(
        crop_scale=(0.08, 1.0),
        mae_crop_scale=(0.2, 1.0),
        flip_prob=0.5,
        color_jitter=0.4,
        randaugment=dict(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5),
        path="fast",
    )
    return shared | varies


def vit(**varies: Any) -> dict[str, Any]:
    """Section `model`; the head starts at 0.001 times the usual 0.02."""
    shared = dict(
        pool="mean",
        posemb="learned",
        head="linear",
        head_init_std=2e-5,
        head_init="random",
        layer_norm_eps=1e-6,
        dtype="auto",
        attention="auto",
        remat="none",
        unroll=1,
        tune="all",
        lora_kind="low_rank",
        lora_rank=8,
        lora_alpha=16.0,
        bottleneck_scale=0.1,  # of AdaptFormer's paper
        lora_matrices="attention",
    )
    return shared | varies


def mae(**varies: Any) -> dict[str, Any]:
    """Section `mae` (He et al. 2022, table 8); the batch and the epochs vary."""
    shared = dict(
        min_updates=0,
        accum=1,
        base_lr=1.5e-4,
        lr_rule="per_256",
        min_lr=0.0,
        schedule="cosine",
        warmup_epochs=40.0,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.05,
        clip_norm=0.0,
        mask_ratio=0.75,
        norm_pix_loss=True,
        decoder_width=512,
        decoder_depth=8,
        decoder_num_heads=16,
    )
    return shared | varies


def supervised(**varies: Any) -> dict[str, Any]:
    """What the sections `finetune` and `semi` have in common."""
    shared = dict(
        min_updates=0,
        accum=1,
        lr_rule="per_256",
        min_lr=1e-6,
        schedule="cosine",
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        clip_norm=0.0,
        label_smoothing=0.1,
        labeled_loss="plain",
        balance_beta=0.999,
        adjust_tau=1.0,
        balanced_order=False,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        mixup_prob=1.0,
        cutmix_switch_prob=0.5,
        head_lr_scale=1.0,
        published_acc1=0.0,
    )
    return shared | varies


def semi(**varies: Any) -> dict[str, Any]:
    """Section `semi`: the paper's EMA teacher and probabilistic pseudo mixup (Cai et al. 2022)."""
    shared = dict(
        ema_decay=0.9999,
        unlabeled_ratio=5,
        teacher="ema",
        pseudo_label_rule="fixed",
        outliers="none",
        bank="",
        pseudo_mixup="prob",
        rule=rule(),
    )
    return supervised() | shared | varies


def rule(**varies: Any) -> dict[str, Any]:
    """Section `semi.rule`: numbers of the pseudo-label rules, of which 'fixed' reads none; sources in docs/rules.md."""
    shared = dict(
        window=8192.0,
        start="first",
        quantile=0.0,
        clip=1.0,
        flex_warmup=True,
        sigmas=2.0,
        cutoff=0.5,
        scale=1.0,
        every=0,
        lowest=0.3,
        highest=0.95,
        sharpening=0.5,
        prior="labels",
        own_target=False,
        temperature=1.0,
        debias=0.4,
        simpro_tau=1.0,
        fairness=0.0,
        fairness_images=4.0,
        outlier_sigmas=0.5,
    )
    return shared | varies


def running(
    *,
    recipe: str,
    origin: str,
    eval_every_epochs: float,
    max_images_per_device: int,
    save_every_steps: int,
    lower_batch_to_fit: bool = False,
) -> dict[str, Any]:
    """Sections `train`, `mesh`, `checkpoint` and `log`: how a run is run and told."""
    return dict(
        train=dict(
            eval_every_epochs=eval_every_epochs,
            eval_batch_size=1024,
            max_images_per_device=max_images_per_device,
            lower_batch_to_fit=lower_batch_to_fit,
            deterministic=False,
            compilation_cache=True,
            agree_every_steps=10,
            hang_minutes=30.0,
            max_nonfinite_in_a_row=10,
            collapse_window_steps=200,
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
        checkpoint=dict(save_every_steps=save_every_steps, keep=2),
        log=dict(
            every_steps=40,
            writers=("jsonl", "tensorboard"),
            tensorboard=True,
            profile_at=0,
            profile_steps=5,
            report=True,
            recipe=recipe,
            origin=origin,
        ),
    )


def per_size(*, small: int, base: int, large: int, huge: int, giant: int) -> dict[str, int]:
    """A number for every ViT on photographs, by its size."""
    towers = {
        **dict.fromkeys(("clip_b32", "clip_b32_quick", "clip_b16", "clip_b16_quick"), base),
        **dict.fromkeys(("siglip_b16", "siglip_b16_erf"), base),
        **dict.fromkeys(("clip_l14", "clip_l14_quick", "siglip_l16", "siglip_l16_erf", "data2vec_l16"), large),
        **dict.fromkeys(("siglip_so400m14", "siglip_so400m14_erf", "data2vec_h14"), huge),
    }
    return {
        **dict.fromkeys(("vit_s16", "vit_s14", "dinov2_s14", "dinov2_s14_reg4", "dinov3_s16", "dinov3_s16plus"), small),
        **dict.fromkeys(("vit_b16", "vit_b14", "dinov2_b14", "dinov2_b14_reg4", "dinov3_b16"), base),
        **dict.fromkeys(("vit_l16", "vit_l14", "dinov2_l14", "dinov2_l14_reg4", "dinov3_l16"), large),
        **dict.fromkeys(("vit_h16", "vit_h14", "dinov3_h16plus"), huge),
        **dict.fromkeys(("dinov2_g14", "dinov2_g14_reg4"), giant),
        **towers,
    }


def model_of(init_from: str, otherwise: str) -> str:
    """The variant of the weights in a folder; `otherwise` where there are none, or no folder yet."""
    from semivit_jax.checkpoints.init_from import decided  # loads jax, which a list of the recipes need not wait for

    if init_from:
        with contextlib.suppress(OSError):  # no address of a folder: refused where the run reads it, with what to do
            return decided(init_from).get("model.variant", otherwise)
    return otherwise


def stages_from(init_from: str) -> tuple[str, ...]:
    """Fine-tuning and the semi-supervised stage; without weights to start from, MAE pre-training first."""
    return ("finetune", "semi") if init_from else ("mae", "finetune", "semi")
