"""Work out image counts and a legal batch for a plan, without opening the data."""

import dataclasses
import math
from pathlib import Path

from semivit_jax import files
from semivit_jax.config import Config, ConfigError
from semivit_jax.data.splits import validation_share
from semivit_jax.plan import ImageCounts, equal_shares
from semivit_jax.stages import STAGES
from semivit_jax.words import counted

# (training images, classes) of the data sets that the recipes name.
KNOWN_DATASETS = {"digits": (1_437, 10), "imagenet2012": (1_281_167, 1_000)}
# Lists of labeled images (Chen et al. 2020), by file name, for when the list itself is not here yet.
KNOWN_LISTS = {"1percent.txt": 12_811, "10percent.txt": 128_116}


@dataclasses.dataclass(frozen=True)
class GivenCounts:
    """Counts given on the command line; 0 works them out from the config.

    `labeled` counts the images of an own folder whose labels are known, some of which may be kept back for
    validation. Where the config chooses among labels that are all known, it counts those it chooses.
    """

    images: int
    labeled: int
    classes: int


def image_counts(config: Config, given: GivenCounts) -> ImageCounts:
    """Counts of images, without the validation images that the config keeps back.

    Raises:
      ConfigError: the data set or the label list is not known here and nothing was given instead.
    """
    data = config.data
    images, classes = KNOWN_DATASETS.get(data.dataset, (0, 0))
    images, classes = given.images or images, given.classes or classes
    if not images or not classes:
        known = ", ".join(KNOWN_DATASETS)
        raise ConfigError(
            f"config.data.dataset is {data.dataset!r}, whose size is not known before it is opened (known: {known}); "
            "give --images=N --classes=N, and --labeled=N unless all, or `label_fraction` of them, are labeled"
        )
    takes_all = not (data.labels_per_class or data.label_fraction or data.label_list)  # an own folder's known labels
    known = (takes_all and given.labeled) or images
    kept_back = round(known * validation_share(data))
    images -= kept_back
    labeled = known - kept_back if takes_all else given.labeled or _num_labeled(config, images, classes)
    if not 0 < labeled <= images:
        raise ConfigError(f"{counted(labeled, 'labeled image')} of {images}; it must be from 1 to all of them")
    return ImageCounts(images, labeled, images - labeled, equal_shares(labeled, classes))


def _num_labeled(config: Config, images: int, classes: int) -> int:
    data = config.data
    if data.labels_per_class:
        return data.labels_per_class * classes
    if data.label_fraction:
        return round(data.label_fraction * images)
    path = Path(files.expanded(data.label_list))
    if path.exists():
        return sum(bool(line.strip()) for line in path.read_text().splitlines())
    if path.name not in KNOWN_LISTS:
        raise ConfigError(f"config.data.label_list {data.label_list!r} is not there; give --labeled=N")
    return KNOWN_LISTS[path.name]


def with_legal_batch(config: Config, stage: str, num_devices: int) -> tuple[Config, tuple[str, ...]]:
    """Raises a stage's batch to the smallest that gives every device its least number of images.

    A published batch is often too small for a large slice. The peak learning rate follows the new batch by the
    config's own rule; the rest of the recipe stays.

    Returns:
      The config, and what was changed in words; empty where the batch fits.
    """
    section = config.stage(stage)
    least = least_images_per_device(config, stage)
    unit = num_devices * section.accum * least
    batch_size = math.ceil(section.batch_size / unit) * unit
    if batch_size == section.batch_size:
        return config, ()
    what = "labeled images" if len(STAGES[stage].streams(section)) > 1 else "images"
    changed = config.with_stage(stage, dataclasses.replace(section, batch_size=batch_size))
    lr = "lr by the same rule" if section.lr_rule == "per_256" else "lr unchanged, as it is absolute"
    return changed, (
        f"batch of {batch_size} {what} instead of {section.batch_size}: the smallest with {least} per device and "
        f"micro-step on {counted(num_devices, 'device')}; {lr}",
    )


def least_images_per_device(config: Config, stage: str) -> int:
    """2 where images mix, since a mixing group lives on one device and an image is mixed with another."""
    return min(STAGES[stage].group_size(config.stage(stage)), 2)
