"""Read a file of labels as spreadsheets, pandas and people write it: signs, delimiter, columns, rows.

UTF-8 and UTF-16 (with its byte order mark) are understood, commas, semicolons and tabs, and columns in any order.
Whatever is understood otherwise than it may have been meant is told.
"""

import codecs
import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from semivit_jax.words import counted, few

COLUMNS = ("path", "label")
_DELIMITERS = (",", ";", "\t")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Row(NamedTuple):
    """What stands in one row, without blanks around it."""

    line: int  # of the file, where the row ends, counted from 1
    path: str
    label: str  # '' where the cell is empty


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a file of labels, and what is wrong with it."""

    rows: tuple[Row, ...]
    errors: tuple[str, ...]  # one line each, with the name of the file
    remarks: tuple[str, ...]  # what was left out


class _Header(NamedTuple):
    """The first line that is not empty, understood."""

    line: int
    delimiter: str
    names: tuple[str, ...]
    path: int  # place of the column
    label: int


def read(file: Path) -> Table:
    """Reads a file of labels, whose first line must name the columns `path` and `label`; never raises."""
    try:
        text = _text(file.read_bytes())
    except OSError as error:
        return _refused(f"the labels {str(file)!r} cannot be read: {error.strerror or error}")
    except UnicodeError as error:
        return _refused(f"the labels {str(file)!r} cannot be read: {error}")
    try:
        header = _header(text)
    except (ValueError, csv.Error) as error:
        return _refused(f"{file.name} {error}")
    rows, errors = _rows(file.name, text, header)
    return Table(tuple(rows), tuple(errors), tuple(_remarks(file.name, header)))


def _refused(why: str) -> Table:
    return Table((), (why,), ())


def _text(content: bytes) -> str:
    """The text of a file.

    Raises:
      UnicodeError: it is in another encoding; the message names the line and the byte.
    """
    text = _decoded(content)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UnicodeError(f"line {line} holds a zero byte, as UTF-16 without its mark has; save it as UTF-8")
    return text


def _decoded(content: bytes) -> str:
    if content.startswith(_UTF16):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UnicodeError(f"it begins as UTF-16 does, but {error.reason} at byte {error.start:,}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnicodeError(
            f"line {line} holds the byte 0x{content[error.start]:02x}, which is not UTF-8; save it as UTF-8 (Excel: "
            "'CSV UTF-8')"
        ) from error


def _header(text: str) -> _Header:
    """The first line, by the delimiter that finds both columns in it.

    Raises:
      ValueError: there is none.
    """
    lines = enumerate(io.StringIO(text, newline=""), start=1)
    number, first = next(((number, line) for number, line in lines if line.strip(" \t\r\n,;")), (1, ""))
    read_as = [(delimiter, next(csv.reader([first], delimiter=delimiter), [])) for delimiter in _DELIMITERS]
    for delimiter, cells in read_as:
        names = tuple(cell.strip() for cell in cells)
        small = [name.lower() for name in names]
        if all(small.count(column) == 1 for column in COLUMNS):
            return _Header(number, delimiter, names, small.index("path"), small.index("label"))
    cells = max((cells for _, cells in read_as), key=len)
    raise ValueError(
        f"line {number} has the columns {few(cells) or 'none'}; it must have path,label, each once, and may have others"
    )


def _rows(name: str, text: str, header: _Header) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    errors: list[str] = []
    # strict: else a quote left open takes the rest of the file
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter, strict=True)
    read = 0  # lines
    try:
        for cells in reader:
            begins, read = read + 1, reader.line_num
            if begins <= header.line or not any(cell.strip() for cell in cells):  # spreadsheets leave empty rows
                continue
            wrong = _wrong(cells, header)
            if wrong:
                errors.append(f"{name} line {read}: {wrong}")
            else:
                rows.append(Row(read, cells[header.path], cells[header.label].strip()))
    except csv.Error as error:
        errors.append(
            f"{name} line {read + 1}: the row that begins here cannot be read ({error}); is a quotation mark left "
            'open? One inside a value is written twice, and the value in quotation marks: "a 3"" disk.jpg"'
        )
    return rows, errors


def _wrong(cells: Sequence[str], header: _Header) -> str:
    """Why a row is none; '' if it is one. Empty cells beyond the last column do no harm."""
    values, columns = counted(len(cells), "value"), counted(len(header.names), "column")
    if len(cells) <= max(header.path, header.label):
        return f"it has {values} and no {COLUMNS[header.label >= len(cells)]}, but {columns}"
    if any(cell.strip() for cell in cells[len(header.names) :]):
        return f"it has {values}, but {columns}; a value that holds the delimiter stands in quotation marks"
    if not cells[header.path].strip():
        return f"the label {cells[header.label]!r} stands beside an empty path"
    return ""


def _remarks(file: str, header: _Header) -> list[str]:
    others = [name for place, name in enumerate(header.names) if place not in (header.path, header.label)]
    named = [name for name in others if name]
    remarks = [f"{file}: passing over the columns {few(named)}"] if named else []
    if header.names[0] == "" and len(others) > len(named):
        remarks.append(
            f"{file}: passing over the first column, which has no name, as the row numbers of pandas have none"
        )
    return remarks
