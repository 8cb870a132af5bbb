"""The recipes whose configs, plans and page are golden: every row of every config file."""

import importlib
from collections.abc import Iterable

from configs import cifar10, imagenet_finetune, imagenet_mae, imagenet_semi, transfer
from semivit_jax.config import Config
from semivit_jax.plan import ImageCounts, equal_shares
from semivit_jax.recipes import check


def _rows(keys: Iterable[tuple[str, str, str]]) -> tuple[str, ...]:
    return tuple("model={},labels={},init={}".format(*key) for key in keys)


RECIPES: dict[str, tuple[str, ...]] = {
    "imagenet_mae": tuple(f"model={model}" for model in imagenet_mae.MODELS),
    "imagenet_finetune": _rows(imagenet_finetune.ROWS),
    "imagenet_semi": _rows(imagenet_semi.ROWS),
    "transfer": tuple(f"dataset={name},labels={labels}" for name in transfer.DATASETS for labels in transfer.FRACTIONS),
    "cifar10": tuple(f"labels={labels}" for labels in cifar10.FINETUNE),
    "own_folder": ("", "init_from=weights/mae_vit_b16", "model=vit_s16"),
    "distill": ("bank=photos.bank",),
    "digits": ("",),
}


def load(file: str, arguments: str) -> Config:
    """The checked config of `configs/<file>.py:<arguments>`."""
    return check.check(importlib.import_module(f"configs.{file}").get_config(arguments))


# Training images and classes of the data sets; own_folder stands for 20,000 images with 200 labels of 10 classes.
SIZES = {
    "imagenet2012": (1_281_167, 1000),
    "food101": (75_750, 101),
    "i_naturalist2018": (437_513, 8142),
    "cars196": (8_144, 196),
    "cifar10": (50_000, 10),
    "digits": (1_437, 10),
    "own_folder": (20_000, 10),
}
LISTED = {"imagenet_subsets/1percent.txt": 12_811, "imagenet_subsets/10percent.txt": 128_116}
OWN_LABELS = 200


def counts(config: Config) -> ImageCounts:
    """Counts of images that a plan needs, as opening the data set would find them (classes taken as equal)."""
    data = config.data
    num_train, num_classes = SIZES[data.dataset]
    if data.label_list:
        num_labeled = LISTED[data.label_list]
    elif data.labels_per_class:
        num_labeled = data.labels_per_class * num_classes
    elif data.label_fraction:
        num_labeled = num_classes * max(1, round(data.label_fraction * num_train / num_classes))
        num_labeled = min(num_labeled, num_train)
    else:
        num_train -= round(data.validation_share * OWN_LABELS)
        num_labeled = round((1 - data.validation_share) * OWN_LABELS)
    return ImageCounts(num_train, num_labeled, num_train - num_labeled, equal_shares(num_labeled, num_classes))
