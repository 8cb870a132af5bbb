"""Derive a stage's plan from the config, the counts of images and the devices; fit its batch to the images."""

import dataclasses

from semivit_jax.config import Config, ConfigError, FinetuneConfig, SemiConfig, StageConfig
from semivit_jax.plan import DataFacts, Plan
from semivit_jax.words import counted


def make_plan(config: Config, stage: str, facts: DataFacts, *, num_devices: int, stored_group_size: int | None) -> Plan:
    """Derives a stage's numbers, or raises `ConfigError` naming batches and device counts that would work.

    Args:
      config: the run.
      stage: one of config.stages.
      facts: counts of images.
      num_devices: all devices of the mesh; every batch is spread over all of them.
      stored_group_size: the group size of the run being continued, which a restart keeps; None for a new run.
    """
    section, ratio = config.stage(stage), _ratio(config.stage(stage))
    if _rows(section, stage, facts) < section.batch_size:
        raise ConfigError(_unfilled(config, stage, facts, num_devices))
    micro_per_epoch = _main_images(stage, facts) // (section.batch_size // section.accum * max(ratio, 1))
    steps_per_epoch = micro_per_epoch // section.accum
    wanted = recipe_group(section) if stored_group_size is None else stored_group_size
    limit = config.train.max_images_per_device
    accum, group = _fit(stage, section, num_devices, wanted, limit, exact_group=stored_group_size is not None)
    deviations = []
    if accum != section.accum:
        limited = f"at most {counted(limit, 'image')} per device"
        why = limited if accum > section.accum else counted(num_devices, "device")
        deviations.append(f"{counted(accum, 'micro-step')} per update instead of {section.accum} ({why})")
    if wanted > 1 and group != recipe_group(section):
        deviations.append(f"mixing groups of {group} labeled images instead of {recipe_group(section)}")
    return Plan(
        stage=stage,
        num_devices=num_devices,
        num_classes=facts.num_classes,
        batch_size=section.batch_size,
        unlabeled_ratio=ratio,
        recipe_accum=section.accum,
        accum=accum,
        group_size=group,
        micro_per_epoch=micro_per_epoch,
        steps_per_epoch=steps_per_epoch,
        total_steps=max(1, round(section.epochs * steps_per_epoch)),
        eval_every_steps=max(1, round(config.train.eval_every_epochs * steps_per_epoch)),
        peak_lr=_peak_lr(section),
        deviations=tuple(deviations),
    )


def fit_batch(
    config: Config, stage: str, facts: DataFacts, *, num_devices: int, stored: int | None
) -> tuple[Config, tuple[str, ...]]:
    """Lowers a stage's batch to what its images fill, if config.train.lower_batch_to_fit allows that.

    The peak learning rate follows the batch by the config's own rule; the rest of the recipe stays.

    Args:
      stored: the batch of the run being continued, which a restart keeps; None for a new run.

    Returns:
      The config for `make_plan`, and what was lowered in words; empty where the batch stays.
    """
    section = config.stage(stage)
    filled = section.batch_size <= _rows(section, stage, facts)
    batch_size = stored
    if batch_size is None and config.train.lower_batch_to_fit and not filled:
        batch_size = _largest_batch(config, stage, facts, num_devices)
    if batch_size in (None, 0, section.batch_size):
        return config, ()
    assert batch_size is not None
    lowered = dataclasses.replace(section, batch_size=batch_size)
    lr = f"peak lr {_peak_lr(lowered):.3g} instead of {_peak_lr(section):.3g}, as config.{stage}.lr_rule says"
    kind = "images" if stage == "mae" else "labeled images"
    return dataclasses.replace(config, **{stage: lowered}), (
        f"batch of {batch_size} {kind} instead of {section.batch_size}, which {_the_images(stage, facts)} cannot fill; "
        f"{lr if section.lr_rule == 'per_256' else 'peak lr unchanged, as it is absolute'}",
    )


def recipe_group(section: StageConfig) -> int:
    """The recipe's group; 1 where nothing mixes."""
    mixes = isinstance(section, FinetuneConfig) and section.labeled_mixup
    if isinstance(section, FinetuneConfig) and (mixes or isinstance(section, SemiConfig)):
        return section.mixup_group_size
    return 1


def _main_images(stage: str, facts: DataFacts) -> int:
    return {"mae": facts.num_train, "finetune": facts.num_labeled, "semi": facts.num_unlabeled}[stage]


def _the_images(stage: str, facts: DataFacts) -> str:
    kind = {"mae": "training image", "finetune": "labeled image", "semi": "unlabeled image"}[stage]
    return f"the {counted(_main_images(stage, facts), kind)}"


def _ratio(section: StageConfig) -> int:
    """Unlabeled images per labeled one, 0 outside the semi stage."""
    return section.unlabeled_ratio if isinstance(section, SemiConfig) else 0


def _rows(section: StageConfig, stage: str, facts: DataFacts) -> int:
    """The largest batch_size that the stage's main stream fills (labeled images repeat in the semi stage)."""
    return _main_images(stage, facts) // max(_ratio(section), 1)


def _peak_lr(section: StageConfig) -> float:
    return section.base_lr * (section.batch_size / 256 if section.lr_rule == "per_256" else 1.0)


def _largest_batch(config: Config, stage: str, facts: DataFacts, devices: int) -> int:
    """The largest legal batch that the images fill, of whole groups in the fewest micro-steps; 0 if there is none.

    A smaller group comes only where the recipe's own would be larger than a device's share.
    """
    section, limit = config.stage(stage), config.train.max_images_per_device
    rows, wanted = min(section.batch_size, _rows(section, stage, facts)), recipe_group(section)
    for group in _divisors(wanted):
        for accum in range(section.accum, rows + 1, section.accum):
            share = rows // (devices * accum * group) * group
            if share and (not limit or share * (1 + _ratio(section)) <= limit):
                return share * devices * accum
    return 0


def _unfilled(config: Config, stage: str, facts: DataFacts, devices: int) -> str:
    """What to say of a batch that the images cannot fill: the largest that they do, or that there is none."""
    section, factor = config.stage(stage), max(_ratio(config.stage(stage)), 1)
    message = f"config.{stage}: {_the_images(stage, facts)} cannot fill "
    largest = _largest_batch(config, stage, facts, devices)
    if largest:
        told = counted(section.batch_size * factor, "image")
        each = f" ({section.batch_size} labeled images, {factor} unlabeled ones for each)" if stage == "semi" else ""
        return (
            f"{message}one update of {told}{each}; --config.{stage}.batch_size={largest} is the largest "
            f"on {counted(devices, 'device')}, --config.train.lower_batch_to_fit=True takes it"
        )
    least = min(recipe_group(section), 2) * section.accum
    fewer = _rows(section, stage, facts) // least
    advice = f"use at most {counted(fewer, 'device')}" if fewer else "there must be more of them"
    if stage == "semi":
        rest = tuple(s for s in config.stages if s != stage)
        advice += f", lower config.semi.unlabeled_ratio, now {factor}"
        advice += f', or leave the stage out: --config.stages="{rest}"' if rest else ""
    return f"{message}the smallest update on {counted(devices, 'device')}, {least * devices * factor} images; {advice}"


def _fit(
    stage: str, section: StageConfig, devices: int, wanted: int, limit: int, *, exact_group: bool
) -> tuple[int, int]:
    """Fewest micro-steps, the recipe's or more, whose images fit; with the largest group that divides a share.

    Fewer than the recipe's are the last resort, where there are more devices than its micro-batch has groups.
    """
    images_per_row = 1 + (section.unlabeled_ratio if isinstance(section, SemiConfig) else 0)
    more = range(section.accum, section.batch_size + 1, section.accum)
    fewer = [a for a in range(section.accum - 1, 0, -1) if section.accum % a == 0]  # many devices need fewer
    for accum in (*more, *fewer):
        if section.batch_size % (accum * devices):
            continue
        share = section.batch_size // accum // devices
        group = _largest_group(wanted, share, exact=exact_group)
        if group and (not limit or share * images_per_row <= limit):
            return accum, group
    raise ConfigError(_misfit(stage, section, devices, wanted, limit, images_per_row))


def _largest_group(wanted: int, share: int, *, exact: bool) -> int:
    """Largest even divisor of `wanted` that divides `share`; 1 where nothing mixes; 0 if there is none."""
    if wanted == 1:
        return 1
    return next((g for g in ([wanted] if exact else _divisors(wanted)) if share % g == 0), 0)


def _divisors(group: int) -> list[int]:
    """Groups that may stand for one: its even divisors, largest first; 1 where nothing mixes."""
    return [g for g in range(group, 1, -1) if group % g == 0 and g % 2 == 0] or [1]


def _misfit(stage: str, section: StageConfig, devices: int, wanted: int, limit: int, images_per_row: int) -> str:
    least = min(wanted, 2)
    unit = devices * least * section.accum
    legal_devices = [
        d for d in range(1, section.batch_size + 1) if section.batch_size % (d * least * section.accum) == 0
    ]
    below, above = section.batch_size // unit * unit, -(-section.batch_size // unit) * unit
    batches = " or ".join(str(b) for b in sorted({below, above}) if b)
    message = (
        f"config.{stage}.batch_size {section.batch_size} (accum {section.accum}) cannot be spread over "
        f"{counted(devices, 'device')} with at least {counted(least, 'image')} per device and micro-step"
    )
    if limit:
        message += f" and at most {limit} // {images_per_row} (config.train.max_images_per_device)"
    return (
        f"{message}; nearest legal batches on {counted(devices, 'device')}: {batches}; "
        f"legal device counts: {legal_devices or 'none'}"
    )
