"""Label the images of a folder: from a CSV file, or by class sub-folders."""

import csv
import dataclasses
import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from semivit_jax.data.sources.folder_walk import UNREAD
from semivit_jax.words import counted

UNLABELED_FOLDER = "unlabeled"  # a sub-folder of this name is no class
_COLUMNS = ("path", "label")


@dataclasses.dataclass(frozen=True)
class FolderLabels:
    """Labels, and what is wrong with them."""

    labels: np.ndarray  # int32 [n], -1 where not known
    class_names: tuple[str, ...]  # sorted
    errors: tuple[str, ...]  # one line each; training must not begin
    warnings: tuple[str, ...]


def from_csv(path: Path, *, root: Path, names: Sequence[str], left_out: Sequence[str]) -> FolderLabels:
    """Reads a CSV file with the columns `path` (relative to `root`) and `label`, in any order.

    Args:
      path: the file, UTF-8.
      root: folder of the images.
      names: the images.
      left_out: what the scan says about files and folders that it left out, to explain why a path is not among
        the images.
    """
    errors: list[str] = []
    rows = _read_csv(path, errors)
    positions = {name: index for index, name in enumerate(names)} if rows else {}
    label_of: dict[int, str] = {}
    line_of: dict[int, int] = {}
    for line, given, label in rows:
        where = f"{path.name} line {line}"
        name = _relative(given, root)
        if name is None:
            errors.append(f"{where}: {given!r} is outside the folder {str(root)!r}")
        elif not label:
            errors.append(f"{where}: {given!r} has an empty label")
        elif name not in positions:
            reason = _left_out(name, left_out)
            errors.append(f"{where}: {reason or _no_image(given, root)}")
        elif positions[name] in label_of:
            errors.append(f"{where}: {given!r} is already in line {line_of[positions[name]]}")
        else:
            label_of[positions[name]] = label
            line_of[positions[name]] = line
    class_names = tuple(sorted(set(label_of.values())))
    labels = np.full(len(names), -1, np.int32)
    number = {name: index for index, name in enumerate(class_names)}
    for index, label in label_of.items():
        labels[index] = number[label]
    if not rows and not errors:
        errors.append(f"{path.name} has no rows")
    return FolderLabels(labels, class_names, tuple(errors), _used_once(labels, class_names))


def from_class_folders(*, names: Sequence[str], directories: Sequence[str]) -> FolderLabels:
    """Images directly inside a sub-folder carry its name as label; all others are unlabeled.

    A sub-folder without any image below it is an error, because its class could never be learned; one that
    only has images in deeper folders, or is called `unlabeled`, is no class. Where there are classes, images in
    deeper folders are a warning.
    """
    parents = [name.rpartition("/")[0] for name in names]  # '' for images in the root
    folders = set(parents)
    class_names = tuple(sorted(f for f in folders if f and "/" not in f and f != UNLABELED_FOLDER))
    number = dict.fromkeys(folders, -1) | {name: index for index, name in enumerate(class_names)}
    labels = np.fromiter((number[folder] for folder in parents), np.int32, count=len(parents))
    top = {directory for directory in directories if directory and "/" not in directory}
    empty = sorted(top - {folder.partition("/")[0] for folder in folders})
    errors = [f"the class folder {name!r} has no image" for name in empty if name != UNLABELED_FOLDER]
    deeper = deeper_images(names) if class_names else ""
    warnings = (*((deeper,) if deeper else ()), *_used_once(labels, class_names))
    return FolderLabels(labels, class_names, tuple(errors), warnings)


def deeper_images(names: Sequence[str]) -> str:
    """What to do about images below ROOT/CLASS, whose label is not read from there, in a line; '' if there are none.

    Those in a folder called `unlabeled` are meant to have no label.
    """
    deeper = [name for name in names if name.count("/") > 1 and not name.startswith(f"{UNLABELED_FOLDER}/")]
    if not deeper:
        return ""
    lie = counted(len(deeper), "image lies", "images lie")
    count = "counts" if len(deeper) == 1 else "count"
    return (
        f"{lie} deeper than ROOT/CLASS and {count} as unlabeled, {deeper[0]!r} for one; to label them, move them up "
        "or list them in a CSV file of path,label"
    )


def too_few_classes(class_names: Sequence[str], names: Sequence[str], *, by_folder: bool) -> str:
    """Why labels of no class, or of a single one, serve no classifier, and where classes may have been lost.

    Args:
      class_names: one or none.
      names: all images.
      by_folder: the sub-folders are the classes, there is no CSV file of labels.
    """
    if class_names:
        why = f"all labeled images have the label {class_names[0]!r}; a classifier needs two classes"
    else:
        why = "no image has a label"
    if not by_folder:
        return why
    rule = "without a CSV file of path,label, the sub-folders are the classes of the images directly in them"
    return "; ".join(filter(None, [why, rule, deeper_images(names)]))


def renumber(found: FolderLabels, class_names: Sequence[str]) -> FolderLabels:
    """The same labels numbered as in another list of classes; a class that is not in it is an error."""
    unknown = [name for name in found.class_names if name not in class_names]
    errors = [f"the class {name!r} is not among those of the training images" for name in unknown]
    number = {name: index for index, name in enumerate(class_names)}
    table = np.array([number.get(name, -1) for name in found.class_names] + [-1], np.int32)
    return FolderLabels(table[found.labels], tuple(class_names), (*found.errors, *errors), found.warnings)


def _read_csv(path: Path, errors: list[str]) -> list[tuple[int, str, str]]:
    """(line number, path, label) of every row."""
    rows: list[tuple[int, str, str]] = []
    read = 0  # lines
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)  # else a quote left open takes the rest of the file
            columns = reader.fieldnames or []
            if sorted(columns) != sorted(_COLUMNS):
                errors.append(f"{path.name} has the columns {', '.join(columns)}; it must have path,label")
                return []
            read = reader.line_num
            for row in reader:
                read = reader.line_num
                if None in row or None in row.values():
                    errors.append(f"{path.name} line {read}: it must have two values")
                else:
                    rows.append((read, row["path"], row["label"].strip()))
    except csv.Error as error:
        errors.append(
            f"{path.name} line {read + 1}: the row that begins here cannot be read ({error}); is a quotation mark left "
            'open? One inside a value is written twice, and the value in quotation marks: "a 3"" disk.jpg"'
        )
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"the labels {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}")
        return []
    return rows


def _relative(given: str, root: Path) -> str | None:
    """The path relative to the root, in its simplest form; None if it leads out of it."""
    if given.startswith("/"):
        top = _root_of(Path(given), root)
        if top is None:
            return None
        given = Path(given).relative_to(top).as_posix()
    simple = posixpath.normpath(given)
    return None if simple == ".." or simple.startswith("../") else simple


def _root_of(path: Path, root: Path) -> Path | None:
    """The beginning of an absolute path that is the root, by its name or by another: through a link or `..`."""
    if ".." not in path.parts and path.is_relative_to(root.absolute()):
        return root.absolute()
    return next((above for above in path.parents if _is_same(above, root)), None)


def _is_same(path: Path, root: Path) -> bool:
    try:
        return os.path.samefile(path, root)
    except OSError:  # not there
        return False


def _left_out(name: str, left_out: Sequence[str]) -> str | None:
    """What the scan says of a file, or of a folder above it; None if nothing."""
    above = [f"{folder.as_posix()!r} " for folder in PurePosixPath(name).parents]
    return next((text for text in left_out if text.startswith((f"{name!r} ", *above))), None)


def _no_image(given: str, root: Path) -> str:
    if given.lower().endswith(UNREAD):
        return f"{given!r} is of a format that is not read; convert it to JPEG or PNG"
    return f"there is no image {given!r} in {str(root)!r}"


def _used_once(labels: np.ndarray, class_names: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(labels[labels >= 0].tolist())
    return tuple(
        f"the label {name!r} is used once; is it spelled as meant?"
        for index, name in enumerate(class_names)
        if counts[index] == 1
    )
