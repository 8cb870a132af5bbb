"""Lay out the study's images: the first of each class to train on, the next for validation, and test images."""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.study.sizes import NUM_CLASSES, Size
from semivit_jax.data import label_lists
from semivit_jax.data.splits import choose_split


def check(data: Path | None) -> str:
    """What is wrong with the folder of photographs, in a line; '' where it can be used."""
    wanted = "DATA=FOLDER with train/CLASS/*.jpg and test/CLASS/*.jpg of CIFAR-10"
    if data is None:
        return f"no images: give {wanted}"
    for split in ("train", "test"):
        if len(_classes(data / split)) != NUM_CLASSES:
            return f"{data / split} does not hold {NUM_CLASSES} folders of classes: give {wanted}"
    return ""


def lay_out(data: Path, images: Path, size: Size) -> None:
    """Copies what the study reads into `images`/train, validation and test; files that are there stay.

    Raises:
      ValueError: a class has too few images.
    """
    parts = {
        "train": ("train", 0, size.train),
        "validation": ("train", size.train, size.validation),
        "test": ("test", 0, size.test),
    }
    for part, (split, first, count) in parts.items():
        for folder in _classes(data / split):
            photos = sorted(folder.iterdir())[first : first + count]
            if len(photos) < count:
                raise ValueError(f"{folder} has too few images: the study takes {first + count} of each class")
            target = images / part / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for photo in photos:
                if not (target / photo.name).exists():
                    shutil.copyfile(photo, target / photo.name)


def list_labeled(train: Path, out: Path, *, labels: int, seed: int) -> None:
    """Lists so many labeled images of each class below `train`, those that `config.seed` would draw."""
    if out.exists():
        return
    classes = _classes(train)
    photos = [(number, photo) for number, folder in enumerate(classes) for photo in sorted(folder.iterdir())]
    split = choose_split(
        np.array([number for number, _ in photos]),
        labels_per_class=labels,
        validation_share=0.0,
        seed=seed,
        class_names=[folder.name for folder in classes],
    )
    label_lists.write(out, split.labeled, [f"{photo.parent.name}/{photo.name}" for _, photo in photos])


def _classes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
