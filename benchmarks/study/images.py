"""Lay out the study's images: the first of each class to train on, the next for validation, and test images."""

import shutil
from pathlib import Path

from benchmarks.study.sizes import NUM_CLASSES, Size


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


def _classes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
