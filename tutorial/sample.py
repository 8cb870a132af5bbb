"""Write a small folder of photos to follow the tutorial with: cuttings of two photos, or photos of class folders.

`python -m tutorial.sample FOLDER` makes FOLDER/photos (all in one folder), FOLDER/labels.csv (labels of a few of them)
and FOLDER/test/CLASS (photos to grade on). With `--photos CLASSES`, from CLASSES/NAME/*.jpg instead.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tutorial import seen

SIDE = 32  # pixels of a cutting
MOST = 60  # photos of a class
LABELED = 8  # of each class
TEST_SHARE = 1 / 3
# What one sees on scikit-learn's two sample photos: which of them, and left, top, right, bottom in pixels.
REGIONS = {
    "dahlia": (1, (190, 100, 430, 345)),
    "leaves": (1, (440, 0, 640, 380)),
    "sky": (0, (340, 0, 640, 130)),
    "temple": (0, (90, 60, 330, 380)),
    "trees": (0, (350, 290, 640, 427)),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the folder."""
    reader = parser()
    flags = reader.parse_args(argv)
    if flags.folder.exists() and any(flags.folder.iterdir()):
        reader.error(f"{flags.folder} is not empty")
    if flags.photos and not flags.photos.is_dir():
        reader.error(f"{flags.photos} is no folder")
    print(write(flags.folder, of_classes(flags.photos) if flags.photos else cuttings()))


def parser() -> argparse.ArgumentParser:
    """Reads the command line."""
    reader = argparse.ArgumentParser(
        prog="python -m tutorial.sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("folder", type=Path, metavar="FOLDER", help="new, or empty")
    reader.add_argument("--photos", type=Path, metavar="CLASSES", help="folder with a folder of photos per class")
    return reader


def cuttings() -> dict[str, list[Image.Image]]:
    """Squares of the sample photos by class; none overlaps another."""
    photos = seen.sample_photos()
    return {name: _squares(Image.fromarray(photos[photo]).crop(box)) for name, (photo, box) in REGIONS.items()}


def _squares(region: Image.Image) -> list[Image.Image]:
    return [region.crop((x, y, x + SIDE, y + SIDE))
            for y in range(0, region.height - SIDE + 1, SIDE)
            for x in range(0, region.width - SIDE + 1, SIDE)]  # fmt: skip


def of_classes(folder: Path) -> dict[str, list[Image.Image]]:
    """The first photos of each class folder, in the order of their names."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return {
        path.name: [Image.open(file).convert("RGB") for file in sorted(path.glob("*.jpg"))[:MOST]] for path in classes
    }


def write(folder: Path, photos: dict[str, list[Image.Image]]) -> str:
    """Divides the photos of each class into training and test, labels a few; returns a line that says what is there."""
    shuffled = random.Random(0)
    training, labels, tested = [], [], 0
    for name, images in photos.items():
        shuffled.shuffle(images)
        kept_apart = round(len(images) * TEST_SHARE)
        for number, image in enumerate(images[:kept_apart]):
            _save(image, folder / "test" / name / f"{number:03}.jpg")
        training += [(name, place < LABELED, image) for place, image in enumerate(images[kept_apart:])]
        tested += kept_apart
    shuffled.shuffle(training)
    for number, (name, labeled, image) in enumerate(training):
        file = f"{number:03}.jpg"
        _save(image, folder / "photos" / file)
        labels += [(file, name)] if labeled else []
    with (folder / "labels.csv").open("w", newline="") as table:
        csv.writer(table, lineterminator="\n").writerows([("path", "label"), *labels])
    return f"{folder}: {len(training)} photos, labels for {len(labels)} of them, and {tested} photos to test on"


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)


if __name__ == "__main__":
    main()
