"""Build a TFDS dataset in array_record from raw images, without TensorFlow.

The same command again goes on after a kill; the dataset appears under its name only when it is complete.
"""

from pathlib import Path

from semivit_jax import console
from semivit_jax.data.prepare import folder, imagenet, shards
from semivit_jax.data.prepare.shards import RawSet
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.words import counted


def prepare(source: Path, *, name: str, data_dir: Path, labels_csv: Path | None, allow_partial: bool) -> Path:
    """Builds `data_dir/name/1.0.0` from raw images and returns that folder.

    Args:
      source: folder of ImageNet's tars, of class folders, or of images.
      name: of the dataset.
      data_dir: existing folder.
      labels_csv: labels of the images of a folder; None reads class sub-folders.
      allow_partial: accept ImageNet tars with fewer images than were published.

    Raises:
      DatasetError: the dataset is there already, the source cannot be used, or counts do not agree.
    """
    final = data_dir / name / shards.VERSION
    with shards.only_builder(final) as building:
        found = _open(source, labels_csv=labels_csv, allow_partial=allow_partial, keep=building)
        sizes = ", ".join(_size(split, images) for split, images in found.splits.items())
        console.say(f"{found.kind}: {sizes}; {counted(len(found.class_names), 'class', 'classes')}")
        shards.build(found, final=final, building=building)
    console.say(f"wrote {final}; use it with {_config_flags(name, data_dir, found)}")
    return final


def _open(source: Path, *, labels_csv: Path | None, allow_partial: bool, keep: Path) -> RawSet:
    if not source.is_dir():
        raise DatasetError(f"{str(source)!r} is not a folder; SOURCE is the folder of the tars or the images")
    if imagenet.is_imagenet(source):
        if labels_csv:
            raise DatasetError("--labels is for a folder of images; ImageNet's tars bring their labels")
        return imagenet.open_imagenet(source, keep=keep, allow_partial=allow_partial)
    return folder.open_images(source, labels_csv=labels_csv, cache_dir=cache_dir())


def _size(split: str, images: ImageSet) -> str:
    labeled = int((images.labels >= 0).sum())
    total = counted(len(images), f"{split} image")
    return total if labeled == len(images) else f"{total} ({labeled:,} labeled, {len(images) - labeled:,} unlabeled)"


def _config_flags(name: str, data_dir: Path, source: RawSet) -> str:
    evaluation = next((split for split in ("validation", "test") if split in source.splits), "")
    values = {"dataset": name, "data_dir": data_dir, "train_split": "train", "eval_split": evaluation}
    # Of the training images; without a split of its own evaluation needs some, with one they would serve nothing.
    values["validation_share"] = 0.0 if evaluation else "SHARE"
    return " ".join(f"--config.data.{key}={value}" for key, value in values.items())
