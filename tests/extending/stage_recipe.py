"""The recipe of the stage `questions`: three yes-or-no questions about every digit."""

from ml_collections import ConfigDict

from semivit_jax.configs import digits


def get_config(text: str = "") -> ConfigDict:
    config = digits.get_config(text)
    config.stages = ("questions",)
    config.questions = dict(
        epochs=30.0,
        min_updates=0,
        batch_size=20,
        accum=1,
        base_lr=2e-3,
        lr_rule="absolute",
        min_lr=0.0,
        schedule="cosine",
        warmup_epochs=1.0,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        clip_norm=0.0,
        layer_decay=0.75,
        ema_decay=0.9,
        label_smoothing=0.0,
        yes_weight=1.0,
    )
    config.log.recipe = "three questions"
    return config
