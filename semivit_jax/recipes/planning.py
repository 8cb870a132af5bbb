"""Derive a stage's plan from the config, the counts of images and the devices; fit its batch to the images."""

import dataclasses
from collections.abc import Sequence

from semivit_jax.config import Config, ConfigError, StageConfig
from semivit_jax.plan import ImageCounts, Plan, Stream
from semivit_jax.stages import STAGES
from semivit_jax.words import counted


def make_plan(
    config: Config, stage: str, counts: ImageCounts, *, num_devices: int, stored_group_size: int | None
) -> Plan:
    """Derives a stage's numbers, or raises `ConfigError` naming batches and device counts that would work.

    Args:
      config: the run.
      stage: one of config.stages.
      counts: images of each role.
      num_devices: all devices of the mesh; every batch is spread over all of them.
      stored_group_size: the group size of the run being continued, which a restart keeps; None for a new run.
    """
    section, streams = config.stage(stage), _streams(config, stage)
    if _rows(streams, counts) < section.batch_size:
        raise ConfigError(_unfilled(config, stage, counts, num_devices))
    main, recipe_group = _main(streams), STAGES[stage].group_size(section)
    micro_per_epoch = _images(main, counts) // (section.batch_size // section.accum * main.per_row)
    steps_per_epoch = micro_per_epoch // section.accum
    wanted = recipe_group if stored_group_size is None else stored_group_size
    limit = config.train.max_images_per_device
    accum, group = _fit(config, stage, num_devices, wanted, exact_group=stored_group_size is not None)
    stretch, deviations = _stretch(section, steps_per_epoch), []
    if stretch > 1:
        deviations.append(_stretched(stage, section, steps_per_epoch))
    if accum != section.accum:
        limited = f"at most {counted(limit, 'image')} per device"
        why = limited if accum > section.accum else counted(num_devices, "device")
        deviations.append(f"{counted(accum, 'micro-step')} per update instead of {section.accum} ({why})")
    if wanted > 1 and group != recipe_group:
        deviations.append(f"mixing groups of {group} labeled images instead of {recipe_group}")
    return Plan(
        stage=stage,
        num_devices=num_devices,
        num_classes=len(counts.per_class),
        batch_size=section.batch_size,
        unlabeled_ratio=_images_per_row(streams) - 1,
        recipe_accum=section.accum,
        accum=accum,
        group_size=group,
        micro_per_epoch=micro_per_epoch,
        steps_per_epoch=steps_per_epoch,
        stretch=stretch,
        total_steps=max(_updates(section, steps_per_epoch), section.min_updates),
        eval_every_steps=max(1, round(config.train.eval_every_epochs * steps_per_epoch)),
        peak_lr=_peak_lr(section),
        deviations=tuple(deviations),
        streams=streams,
        counts=counts,
    )


def fit_batch(
    config: Config, stage: str, counts: ImageCounts, *, num_devices: int, stored: int | None
) -> tuple[Config, tuple[str, ...]]:
    """Lowers a stage's batch to what its images fill, if config.train.lower_batch_to_fit allows that.

    The peak learning rate follows the batch by the config's own rule; the rest of the recipe stays.

    Args:
      stored: the batch of the run being continued, which a restart keeps; None for a new run.

    Returns:
      The config for `make_plan`, and what was lowered in words; empty where the batch stays.
    """
    section, streams = config.stage(stage), _streams(config, stage)
    filled = section.batch_size <= _rows(streams, counts)
    batch_size = stored
    if batch_size is None and config.train.lower_batch_to_fit and not filled:
        batch_size = _largest_batch(config, stage, counts, num_devices)
    if batch_size in (None, 0, section.batch_size):
        return config, ()
    assert batch_size is not None
    lowered = dataclasses.replace(section, batch_size=batch_size)
    lr = f"peak lr {_peak_lr(lowered):.3g} instead of {_peak_lr(section):.3g}, as config.{stage}.lr_rule says"
    kind = "labeled images" if streams[0].images == "labeled" else "images"
    return config.with_stage(stage, lowered), (
        f"batch of {batch_size} {kind} instead of {section.batch_size}, which {_the_images(streams, counts)} cannot "
        f"fill; {lr if section.lr_rule == 'per_256' else 'peak lr unchanged, as it is absolute'}",
    )


def _updates(section: StageConfig, steps_per_epoch: int) -> int:
    """Of the recipe's epochs."""
    return max(1, round(section.epochs * steps_per_epoch))


def _stretch(section: StageConfig, steps_per_epoch: int) -> float:
    """How many times as long as its epochs a stage lasts: of few images an epoch is hardly an update."""
    enough = _updates(section, steps_per_epoch) >= section.min_updates
    return 1.0 if enough else section.min_updates / (section.epochs * steps_per_epoch)


def _stretched(stage: str, section: StageConfig, steps_per_epoch: int) -> str:
    planned = f"{_updates(section, steps_per_epoch):,} ({section.epochs:g} epochs of {steps_per_epoch:,})"
    return f"{counted(section.min_updates, 'update')} instead of {planned}, as config.{stage}.min_updates says"


def _streams(config: Config, stage: str) -> tuple[Stream, ...]:
    return STAGES[stage].streams(config.stage(stage))


def _main(streams: Sequence[Stream]) -> Stream:
    """The stream that sets the epoch."""
    (main,) = (stream for stream in streams if stream.sets_epoch)
    return main


def _images(stream: Stream, counts: ImageCounts) -> int:
    return getattr(counts, stream.images)


def _the_images(streams: Sequence[Stream], counts: ImageCounts) -> str:
    main = _main(streams)
    return f"the {counted(_images(main, counts), f'{main.images} image')}"


def _rows(streams: Sequence[Stream], counts: ImageCounts) -> int:
    """The largest batch_size that the main stream fills; the other streams repeat."""
    main = _main(streams)
    return _images(main, counts) // main.per_row


def _images_per_row(streams: Sequence[Stream]) -> int:
    """Images of all streams beside one of batch_size, itself among them."""
    return sum(stream.per_row for stream in streams)


def _peak_lr(section: StageConfig) -> float:
    return section.base_lr * (section.batch_size / 256 if section.lr_rule == "per_256" else 1.0)


def _largest_batch(config: Config, stage: str, counts: ImageCounts, devices: int) -> int:
    """The largest legal batch that the images fill, of whole groups in the fewest micro-steps; 0 if there is none.

    A smaller group comes only where the recipe's own would be larger than a device's share.
    """
    section, streams, limit = config.stage(stage), _streams(config, stage), config.train.max_images_per_device
    rows, wanted = min(section.batch_size, _rows(streams, counts)), STAGES[stage].group_size(section)
    for group in _divisors(wanted):
        for accum in range(section.accum, rows + 1, section.accum):
            share = rows // (devices * accum * group) * group
            if share and (not limit or share * _images_per_row(streams) <= limit):
                return share * devices * accum
    return 0


def _unfilled(config: Config, stage: str, counts: ImageCounts, devices: int) -> str:
    """What to say of a batch that the images cannot fill: the largest that they do, or that there is none."""
    section, streams = config.stage(stage), _streams(config, stage)
    first, main = streams[0], _main(streams)
    message = f"config.{stage}: {_the_images(streams, counts)} cannot fill "
    largest = _largest_batch(config, stage, counts, devices)
    if largest:
        told = counted(section.batch_size * main.per_row, "image")
        each = f" ({section.batch_size} {first.images} images, {main.per_row} {main.images} ones for each)"
        return (
            f"{message}one update of {told}{each if main.ratio_key else ''}; --config.{stage}.batch_size={largest} is "
            f"the largest on {counted(devices, 'device')}, --config.train.lower_batch_to_fit=True takes it"
        )
    least = min(STAGES[stage].group_size(section), 2) * section.accum
    fewer = _rows(streams, counts) // least
    advice = f"use at most {counted(fewer, 'device')}" if fewer else "there must be more of them"
    if main.ratio_key:
        rest = tuple(s for s in config.stages if s != stage)
        advice += f", lower config.{stage}.{main.ratio_key}, now {main.per_row}"
        advice += f', or leave the stage out: --config.stages="{rest}"' if rest else ""
    images = least * devices * main.per_row
    return f"{message}the smallest update on {counted(devices, 'device')}, {images} images; {advice}"


def _fit(config: Config, stage: str, devices: int, wanted: int, *, exact_group: bool) -> tuple[int, int]:
    """Micro-steps and mixing group on so many devices.

    Raises:
      ConfigError: there are none; names batches and device counts that have some.
    """
    section, limit = config.stage(stage), config.train.max_images_per_device
    images_per_row = _images_per_row(_streams(config, stage))
    most_rows = limit // images_per_row if limit else section.batch_size

    def spread(over: int) -> tuple[int, int] | None:
        return _spread(section.batch_size, section.accum, over, wanted, most_rows, exact_group=exact_group)

    found = spread(devices)
    if found is None:
        legal = [d for d in range(1, section.batch_size + 1) if spread(d)]
        limited = f" and at most {limit} // {images_per_row} (config.train.max_images_per_device)" if limit else ""
        misfit = _misfit_of_run if exact_group else _misfit
        raise ConfigError(f"{misfit(stage, section, devices, wanted, limited)}; legal device counts: {legal or 'none'}")
    return found


def _spread(
    batch: int, recipe_accum: int, devices: int, wanted: int, most_rows: int, *, exact_group: bool
) -> tuple[int, int] | None:
    """Fewest micro-steps, the recipe's or more, whose rows fit; with the largest group that divides a share.

    Fewer than the recipe's are the last resort, where there are more devices than its micro-batch has groups.
    """
    more = range(recipe_accum, batch + 1, recipe_accum)
    fewer = [a for a in range(recipe_accum - 1, 0, -1) if recipe_accum % a == 0]  # many devices need fewer
    for accum in (*more, *fewer):
        if batch % (accum * devices):
            continue
        share = batch // accum // devices
        group = _largest_group(wanted, share, exact=exact_group)
        if group and share <= most_rows:
            return accum, group
    return None


def _largest_group(wanted: int, share: int, *, exact: bool) -> int:
    """Largest even divisor of `wanted` that divides `share`; 1 where nothing mixes; 0 if there is none."""
    if wanted == 1:
        return 1
    return next((g for g in ([wanted] if exact else _divisors(wanted)) if share % g == 0), 0)


def _divisors(group: int) -> list[int]:
    """Groups that may stand for one: its even divisors, largest first; 1 where nothing mixes."""
    return [g for g in range(group, 1, -1) if group % g == 0 and g % 2 == 0] or [1]


def _misfit(stage: str, section: StageConfig, devices: int, wanted: int, limited: str) -> str:
    least = min(wanted, 2)
    unit = devices * least * section.accum
    below, above = section.batch_size // unit * unit, -(-section.batch_size // unit) * unit
    batches = " or ".join(str(b) for b in sorted({below, above}) if b)
    return (
        f"config.{stage}.batch_size {section.batch_size} (accum {section.accum}) cannot be spread over "
        f"{counted(devices, 'device')} with at least {counted(least, 'image')} per device and micro-step{limited}; "
        f"nearest legal batches on {counted(devices, 'device')}: {batches}"
    )


def _misfit_of_run(stage: str, section: StageConfig, devices: int, group: int, limited: str) -> str:
    """The same of a run that goes on: batch and group stay what they were, since draws depend on them."""
    return (
        f"config.{stage}.batch_size {section.batch_size} (accum {section.accum}) and mixing groups of {group}, with "
        f"which this run began, cannot be spread over {counted(devices, 'device')} in whole groups{limited}"
    )
