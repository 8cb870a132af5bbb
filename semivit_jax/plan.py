"""Plan: every number derived from the config, the data and the devices, in one frozen dataclass per stage."""

import dataclasses

from semivit_jax.config import Config, ConfigError, FinetuneConfig, SemiConfig, StageConfig


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Counts a plan needs; train images are those not held out for validation or test."""

    num_train: int
    num_labeled: int
    num_unlabeled: int
    num_classes: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Derived numbers of one stage. Batches are global; an image pair of weak and strong views counts once."""

    stage: str
    num_devices: int
    num_classes: int
    batch_size: int  # images per update (semi: labeled ones)
    unlabeled_ratio: int  # 0 outside the semi stage
    recipe_accum: int  # micro-steps per update in the recipe: decides epochs and lr
    accum: int  # micro-steps per update as run: the recipe's, times what the devices ask for
    group_size: int  # labeled images that draw and mix together; 1 where nothing mixes
    micro_per_epoch: int  # of the recipe's micro-batches
    steps_per_epoch: int
    total_steps: int
    eval_every_steps: int
    peak_lr: float
    deviations: tuple[str, ...]  # what differs from the recipe, in words

    @property
    def micro_batch(self) -> int:
        """Images per micro-step as run (semi: labeled ones)."""
        return self.batch_size // self.accum

    @property
    def groups(self) -> int:
        """Mixing groups per micro-step."""
        return self.micro_batch // self.group_size


def make_plan(config: Config, stage: str, facts: DataFacts, *, num_devices: int, stored_group_size: int | None) -> Plan:
    """Derives a stage's numbers, or raises `ConfigError` naming batches and device counts that would work.

    Args:
      config: the run.
      stage: one of config.stages.
      facts: counts of images.
      num_devices: all devices of the mesh; every batch is spread over all of them.
      stored_group_size: the group size of the run being continued, which a restart keeps; None for a new run.
    """
    section = config.stage(stage)
    ratio = section.unlabeled_ratio if isinstance(section, SemiConfig) else 0
    main_images = {"mae": facts.num_train, "finetune": facts.num_labeled, "semi": facts.num_unlabeled}[stage]
    recipe_micro = section.batch_size // section.accum * max(ratio, 1)
    micro_per_epoch = main_images // recipe_micro
    steps_per_epoch = micro_per_epoch // section.accum
    if not steps_per_epoch:
        raise ConfigError(
            f"config.{stage}: {main_images} images of its main stream do not fill one update of "
            f"{recipe_micro * section.accum}; lower config.{stage}.batch_size"
        )
    wanted = _wanted_group(section) if stored_group_size is None else stored_group_size
    limit = config.train.max_images_per_device
    accum, group = _fit(stage, section, num_devices, wanted, limit, exact_group=stored_group_size is not None)
    deviations = []
    if accum != section.accum:
        why = f"at most {limit} images per device" if accum > section.accum else f"{num_devices} devices"
        deviations.append(f"{accum} micro-steps per update instead of {section.accum} ({why})")
    if wanted > 1 and group != _wanted_group(section):
        deviations.append(f"mixing groups of {group} labeled images instead of {_wanted_group(section)}")
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
        peak_lr=section.base_lr * (section.batch_size / 256 if section.lr_rule == "per_256" else 1.0),
        deviations=tuple(deviations),
    )


def _wanted_group(section: StageConfig) -> int:
    """The recipe's group; 1 where nothing mixes."""
    mixes = isinstance(section, FinetuneConfig) and section.labeled_mixup
    if isinstance(section, FinetuneConfig) and (mixes or isinstance(section, SemiConfig)):
        return section.mixup_group_size
    return 1


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
    sizes = [wanted] if exact else [g for g in range(wanted, 1, -1) if wanted % g == 0 and g % 2 == 0]
    return next((g for g in sizes if share % g == 0), 0)


def _misfit(stage: str, section: StageConfig, devices: int, wanted: int, limit: int, images_per_row: int) -> str:
    least = min(wanted, 2)
    unit = devices * least * section.accum
    legal_devices = [
        d for d in range(1, section.batch_size + 1) if section.batch_size % (d * least * section.accum) == 0
    ]
    below, above = section.batch_size // unit * unit, -(-section.batch_size // unit) * unit
    batches = " or ".join(str(b) for b in sorted({below, above}) if b)
    message = (
        f"config.{stage}.batch_size {section.batch_size} (accum {section.accum}) cannot be spread over {devices} "
        f"devices with at least {least} images per device and micro-step"
    )
    if limit:
        message += f" and at most {limit} // {images_per_row} (config.train.max_images_per_device)"
    return f"{message}; nearest legal batches on {devices} devices: {batches}; legal device counts: {legal_devices}"
