"""List the images of a folder to build from: class sub-folders, split folders, or a CSV."""

from pathlib import Path

from semivit_jax.data.prepare.shards import RawSet
from semivit_jax.data.sources import folder_labels
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder import FolderSet, open_folder
from semivit_jax.data.sources.image_set import ImageSet

# Folder -> split, by the names that TFDS datasets use.
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def open_images(root: Path, *, labels_csv: Path | None, cache_dir: Path) -> RawSet:
    """Lists the images of a folder.

    Without `labels_csv`, a root whose only sub-folders are train and val, validation or test holds splits; any other
    root is one split, `train`.

    Raises:
      DatasetError: no image, labels with mistakes, or a class name that TFDS cannot store.
    """
    found = None if labels_csv else _split_folders(root)
    if not found:
        opened = {
            "train": open_folder(root, labels_csv=labels_csv, class_names=None, keep_none=False, cache_dir=cache_dir)
        }
        kind = "a folder with labels in a CSV file" if labels_csv else "class folders"
    else:
        opened = _open_splits(found, cache_dir)
        kind = f"class folders in {', '.join(folder.name for folder in found.values())}"
    class_names = opened["train"].listing.class_names
    if len(class_names) < 2:
        why = folder_labels.too_few_classes(class_names, opened["train"].listing.names, by_folder=labels_csv is None)
        raise DatasetError(
            f"{str(root)!r}: {why}. Such a file is given as --labels; images without labels are used where they are, "
            "with config.data.dataset=own_folder"
        )
    _check_class_names(class_names)
    images = {split: _images(folder) for split, folder in opened.items()}
    return RawSet(kind, images, class_names, "\n".join(folder.fingerprint for folder in opened.values()))


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder, `train` first; empty when the root does not hold splits."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not any(folder.name == "train" for folder in folders) or any(folder.name not in _SPLITS for folder in folders):
        return {}
    found = {"train": root / "train"}
    for folder in folders:
        split = _SPLITS[folder.name]
        if found.setdefault(split, folder) != folder:
            raise DatasetError(f"{found[split].name!r} and {folder.name!r} in {str(root)!r} are both the split {split}")
    return found


def _open_splits(folders: dict[str, Path], cache_dir: Path) -> dict[str, FolderSet]:
    opened: dict[str, FolderSet] = {}
    for split, folder in folders.items():
        classes = opened["train"].listing.class_names if opened else None
        opened[split] = open_folder(folder, labels_csv=None, class_names=classes, keep_none=False, cache_dir=cache_dir)
    return opened


def _images(found: FolderSet) -> ImageSet:
    return ImageSet(found.records, found.listing.names, found.listing.labels)


def _check_class_names(names: tuple[str, ...]) -> None:
    """TFDS stores class names in a text file, one per line, and strips the lines."""
    for name in names:
        if not name.isprintable() or name != name.strip():
            raise DatasetError(
                f"the class name {name!r} cannot be stored in a TFDS dataset: it must be printable text without spaces "
                "at its ends; rename the class"
            )
