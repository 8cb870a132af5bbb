"""Read a table of labels and write it anew, with its own columns and rows in their order."""

import csv
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from semivit_jax import files
from semivit_jax.data.sources import folder_labels, label_table
from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.label_paths import Images
from semivit_jax.words import shortened

_ABSENT = (0, 0, 0)


class Table:
    """The file of labels, as it is on the disk.

    Attributes:
      labels: name of an image -> its label, of those that have one.
      is_stale: it could not be written, and is not what `labels` says.
    """

    def __init__(self, file: Path, images: Images):
        """Reads the file; one that is not there is an empty table.

        Raises:
          DatasetError: it has mistakes.
        """
        self.file, self._images = file, images
        self.read()

    def read(self) -> None:
        """Reads the file again.

        Raises:
          DatasetError: it has mistakes.
        """
        stamp = _stamp(self.file)
        columns, path, label, rows, labels = label_table.COLUMNS, 0, 1, [], {}
        if stamp[2]:
            labels = self._checked()
            header, rows = label_table.cells(self.file)  # which has no mistakes
            columns, path, label = header.names, header.path, header.label
        self._label, self._path, self._width = label, path, len(columns)
        self._lines = [_line(columns), *map(_line, rows)]
        self._rows, self._row_of = rows, {}
        for number, row in enumerate(rows):
            if (place := self._images.find(row[path])) is not None:
                self._row_of[self._images.names[place]] = number
        self._own: set[str] = set()  # images whose row was written here
        self.labels, self._stamp, self.is_stale = labels, stamp, False

    def _checked(self) -> dict[str, str]:
        """The labels of the file, which may have a header alone."""
        names = self._images.names
        read = label_table.read(self.file, is_image=lambda path: self._images.find(path) is not None)
        if not read.rows and not read.errors:
            return {}
        found = folder_labels.from_csv(self.file, root=self._images.root, names=names, left_out=())
        if found.errors:
            raise DatasetError("\n".join([f"{self.file} must be mended first:", *shortened(found.errors)]))
        labels = {
            names[int(place)]: found.class_names[found.labels[place]] for place in (found.labels >= 0).nonzero()[0]
        }
        return labels | {names[int(place)]: NONE_LABEL for place in found.none.nonzero()[0]}

    def changed_outside(self) -> bool:
        """Whether another program has written the file since it was read or written here."""
        return _stamp(self.file) != self._stamp

    def write(self, labels: Mapping[str, str]) -> None:
        """Replaces the file; it appears whole.

        Args:
          labels: name of an image -> its new label, '' for none; of the others the label stays.

        Raises:
          OSError: it cannot be written; the file is as it was.
        """
        self.is_stale = True
        for name, label in labels.items():
            self._set(name, label)
        with files.writing(os.path.realpath(self.file)) as opened:  # a link stays one
            if self._stamp != _ABSENT:
                os.fchmod(opened.fileno(), stat.S_IMODE(os.stat(self.file).st_mode))  # who may read it, still may
            opened.write("".join(filter(None, self._lines)).encode(errors="surrogateescape"))
        self._stamp, self.is_stale = _stamp(self.file), False

    def _set(self, name: str, label: str) -> None:
        """Changes a row, or adds one. One that was added here goes when its image has no label any more."""
        if label:
            self.labels[name] = label
        else:
            self.labels.pop(name, None)
        number = self._row_of.get(name)
        if number is None:
            number = self._row_of[name] = len(self._rows)
            cells = [""] * self._width
            cells[self._path] = name
            self._rows.append(cells)
            self._lines.append("")
            self._own.add(name)
        self._rows[number][self._label] = label
        gone = not label and name in self._own
        self._lines[number + 1] = "" if gone else _line(self._rows[number])

    @property
    def time(self) -> int:
        """When the file was last changed, in nanoseconds; 0 where there is none."""
        return self._stamp[1]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    text = io.StringIO(newline="")
    # Before Python 3.13 the writer leaves this sign bare, at which a reader begins another row.
    quoting = csv.QUOTE_ALL if any("\r" in cell for cell in cells) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerow(cells)
    return text.getvalue()


def _stamp(file: Path) -> tuple[int, int, int]:
    """What changes when a file is written: inode, time and size."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return _ABSENT
    return found.st_ino, found.st_mtime_ns, found.st_size
