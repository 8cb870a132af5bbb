"""Find by trying the nearest change of remat, fsdp and accumulation that makes a step fit."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from semivit_jax.config import Config, ConfigError
from semivit_jax.plan import ImageCounts
from semivit_jax.recipes.planning import make_plan

REMAT = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What may change without changing what is computed."""

    remat: str
    fsdp: int
    images_per_device: int  # of one micro-step, unlabeled ones included; config.train.max_images_per_device

    def flags(self, start: "Setting") -> tuple[str, ...]:
        """Command-line overrides that turn `start` into this."""
        keys = {
            "model.remat": (start.remat, self.remat),
            "mesh.fsdp": (start.fsdp, self.fsdp),
            "train.max_images_per_device": (start.images_per_device, self.images_per_device),
        }
        return tuple(f"--config.{key}={new}" for key, (old, new) in keys.items() if old != new)

    def applied_to(self, config: Config) -> Config:
        """The config with this setting."""
        return dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, remat=self.remat),
            mesh=dataclasses.replace(config.mesh, fsdp=self.fsdp),
            train=dataclasses.replace(config.train, max_images_per_device=self.images_per_device),
        )


@dataclasses.dataclass(frozen=True)
class Found:
    """The nearest setting that fits, None if none was found, and every one that was tried."""

    setting: Setting | None
    tried: tuple[Setting, ...]
    gave_up: bool  # true when tries ran out before settings did


def nearby(start: Setting, *, most_fsdp: int) -> list[Setting]:
    """Every setting that needs less memory, nearest first.

    Near means few things changed, then few doublings; of equals, rematerialisation before sharding before smaller
    micro-steps, since that order costs the least time on a fast interconnect.
    """
    remats = REMAT[REMAT.index(start.remat) :]
    shards = [n for n in _doublings(start.fsdp, most_fsdp) if most_fsdp % n == 0]
    halvings = range(int(math.log2(start.images_per_device)) + 1)
    ranked = []
    for r, remat in enumerate(remats):
        for f, fsdp in enumerate(shards):
            for a in halvings:
                setting = Setting(remat, fsdp, start.images_per_device >> a)
                distance = ((r > 0) + (f > 0) + (a > 0), r + f + a, a, f)
                ranked.append((distance, setting))
    return [setting for distance, setting in sorted(ranked, key=lambda pair: pair[0]) if distance[0]]


def _doublings(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def nearest(
    start: Setting,
    *,
    most_fsdp: int,
    promising: Callable[[Setting], bool],
    fits: Callable[[Setting], bool],
    max_tries: int,
) -> Found:
    """Tries settings from near to far.

    Args:
      start: what does not fit.
      most_fsdp: devices of a slice.
      promising: cheap check; false keeps a setting from being tried.
      fits: the real check, possibly minutes of compiling.
      max_tries: calls of `fits` at most.
    """
    tried: list[Setting] = []
    for setting in nearby(start, most_fsdp=most_fsdp):
        if not promising(setting):
            continue
        if len(tried) == max_tries:
            return Found(None, tuple(tried), gave_up=True)
        tried.append(setting)
        if fits(setting):
            return Found(setting, tuple(tried), gave_up=False)
    return Found(None, tuple(tried), gave_up=False)


def can_plan(config: Config, stage: str, counts: ImageCounts, *, num_devices: int, group_size: int) -> bool:
    """Whether a batch can be cut as a setting asks, with whole mixing groups of this size on every device."""
    try:
        make_plan(config, stage, counts, num_devices=num_devices, stored_group_size=group_size)
    except ConfigError:
        return False
    return True
