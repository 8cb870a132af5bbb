"""Label the images of a folder: from a CSV file, or by class sub-folders."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivit_jax.data.sources import class_names as names_of_classes
from semivit_jax.data.sources import label_table
from semivit_jax.data.sources.class_names import NONE_LABEL, UNLABELED_FOLDER
from semivit_jax.data.sources.label_paths import Images, Miss, relative
from semivit_jax.data.sources.label_table import Row
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class FolderLabels:
    """Labels, and what is wrong with them."""

    labels: np.ndarray  # int32 [n], -1 where not known
    class_names: tuple[str, ...]  # sorted
    errors: tuple[str, ...]  # one line each; training must not begin
    warnings: tuple[str, ...]
    doubts: tuple[str, ...]  # about names of classes
    none: np.ndarray  # bool [n], images that a person has found to belong to no class; their label is -1


def from_csv(path: Path, *, root: Path, names: Sequence[str], left_out: Sequence[str]) -> FolderLabels:
    """Reads a file with the columns `path` (relative to `root`) and `label`; a row with an empty label gives none.

    The label `-none-` is no class: it says that the image belongs to none.

    Args:
      path: the file.
      root: folder of the images.
      names: the images.
      left_out: what the scan says about files and folders that it left out, to explain why a path is not among
        the images.
    """
    images, misses, doubled = Images(root, names), [], []
    table = label_table.read(path, is_image=lambda written: images.find(written) is not None)
    row_of: dict[int, Row] = {}
    for row in table.rows:
        position = images.find(row.path)
        if position is None:
            misses.append(Miss(row, outside=relative(row.path, root) is None))
        elif position in row_of:
            first = row_of[position].line
            doubled.append(f"{path.name} line {row.line}: {row.path!r} is already in line {first}")
        else:
            row_of[position] = row
    errors = [
        *table.errors,
        *images.causes(misses, file=path.name, num_rows=len(table.rows), left_out=left_out),
        *doubled,
    ]
    errors += _nulls(path.name, table.rows)
    if not table.rows and not errors:
        errors.append(f"{path.name} has no rows")
    labeled = {position: row.label for position, row in row_of.items() if row.label not in ("", NONE_LABEL)}
    class_names = tuple(sorted(set(labeled.values())))
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.full(len(names), -1, np.int32)
    for position, label in labeled.items():
        labels[position] = number[label]
    none = np.zeros(len(names), bool)
    none[[position for position, row in row_of.items() if row.label == NONE_LABEL]] = True
    doubts = names_of_classes.remarks(Counter(labeled.values()), by_folder=False)
    warnings = (*table.remarks, *_without_label(path.name, table.rows))
    return FolderLabels(labels, class_names, tuple(errors), warnings, tuple(doubts), none)


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
    if NONE_LABEL in class_names:
        errors.append(
            f"the class folder {NONE_LABEL!r} has the name that a file of labels gives to images of no class; "
            "take it out of the images, or give the class another name"
        )
    deeper = deeper_images(names) if class_names else ""
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names)).tolist()
    doubts = names_of_classes.remarks(dict(zip(class_names, counts, strict=True)), by_folder=True)
    none = np.zeros(len(names), bool)
    return FolderLabels(labels, class_names, tuple(errors), (deeper,) if deeper else (), tuple(doubts), none)


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
    """The same labels numbered as in another list of classes; a class that is not in it is an error.

    What is doubtful about the names was said with the other list.
    """
    errors = [_unknown(name, class_names) for name in found.class_names if name not in class_names]
    number = {name: index for index, name in enumerate(class_names)}
    table = np.array([number.get(name, -1) for name in found.class_names] + [-1], np.int32)
    errors = (*found.errors, *errors)
    return FolderLabels(table[found.labels], tuple(class_names), errors, found.warnings, (), found.none)


def _unknown(name: str, class_names: Sequence[str]) -> str:
    line = f"the class {name!r} is not among those of the training images"
    twin = names_of_classes.twin_of(name, class_names)
    return f"{line}; it {twin}" if twin else line


def _nulls(file: str, rows: Sequence[Row]) -> list[str]:
    """Labels that are none, together; a class of them would be made out of nothing."""
    found = [row for row in rows if row.label and names_of_classes.is_null(row.label)]
    if not found:
        return []
    more = f", and {counted(len(found) - 1, 'further row')} with such a one" if len(found) > 1 else ""
    return [
        f"{file} line {found[0].line}: the label {found[0].label!r} is what programs write for no value{more}; leave "
        "the label empty where there is none, or give the class another name"
    ]


def _without_label(file: str, rows: Sequence[Row]) -> list[str]:
    found = [row for row in rows if not row.label]
    if not found:
        return []
    rows_with = counted(len(found), "row has an empty label", "rows have an empty label")
    return [f"{file}: {rows_with}, line {found[0].line} first; such images count as unlabeled"]
