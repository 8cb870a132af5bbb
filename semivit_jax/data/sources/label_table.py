"""Read a file of labels as spreadsheets, pandas and people write it: signs, delimiter, columns, rows.

UTF-8 and UTF-16 (with its byte order mark) are understood, commas, semicolons and tabs, and columns in any order.
Whatever is understood otherwise than it may have been meant is told.
"""

import codecs
import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from semivit_jax.words import counted, few

COLUMNS = ("path", "label")
_DELIMITERS = (",", ";", "\t")
_UNDECODED = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as surrogateescape keeps it
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


class Header(NamedTuple):
    """The first line that is not empty, understood."""

    line: int
    delimiter: str
    names: tuple[str, ...]
    path: int  # place of the column
    label: int


def read(file: Path, *, is_image: Callable[[str], bool]) -> Table:
    """Reads a file of labels, whose first line must name the columns `path` and `label`; never raises.

    Args:
      file: to read.
      is_image: whether a path is that of an image, asked of paths that are not UTF-8, as names of files may be.
    """
    try:
        text = _text(file.read_bytes())
    except OSError as error:
        return _refused(f"the labels {str(file)!r} cannot be read: {error.strerror or error}")
    except UnicodeError as error:
        return _refused(f"the labels {str(file)!r} cannot be read: {error}")
    try:
        header = _header(text)
    except (ValueError, csv.Error) as error:
        return _refused(_not_utf8(file, text, set()) or f"{file.name} {error}")
    rows, errors = _rows(file.name, text, header)
    if _UNDECODED.search(text):
        named = [row for row in rows if _UNDECODED.search(row.path) and is_image(row.path)]
        if sum(len(_UNDECODED.findall(row.path)) for row in named) < len(_UNDECODED.findall(text)):
            return _refused(_not_utf8(file, text, {row.line for row in named}))
    return Table(tuple(rows), tuple(errors), tuple(_remarks(file.name, header)))


def cells(file: Path) -> tuple[Header, list[list[str]]]:
    """The header of a file in which `read` finds no error, and all cells of its rows, for writing it anew."""
    text = _text(file.read_bytes())
    header = _header(text)
    return header, [row for _, row in _cells(text, header)]


def _not_utf8(file: Path, text: str, but_lines: set[int]) -> str:
    """Why a text is refused for a byte that is not UTF-8, the first one outside of these lines; '' if all is."""
    for number, line in enumerate(text.split("\n"), start=1):
        if number not in but_lines and (found := _UNDECODED.search(line)):
            byte = ord(found[0]) - 0xDC00
            return (
                f"the labels {str(file)!r} cannot be read: line {number} holds the byte 0x{byte:02x}, which is not "
                "UTF-8; save it as UTF-8 (Excel: 'CSV UTF-8')"
            )
    return ""


def _refused(why: str) -> Table:
    return Table((), (why,), ())


def _text(content: bytes) -> str:
    """The text of a file; bytes that are not UTF-8 stay in it as `os.fsdecode` has them.

    Raises:
      UnicodeError: it is in another encoding; the message names the line.
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
    return content.decode("utf-8-sig", errors="surrogateescape")


def _header(text: str) -> Header:
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
            return Header(number, delimiter, names, small.index("path"), small.index("label"))
    cells = max((cells for _, cells in read_as), key=len)
    raise ValueError(
        f"line {number} has the columns {few(cells) or 'none'}; it must have path,label, each once, and may have others"
    )


def _rows(name: str, text: str, header: Header) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    errors: list[str] = []
    try:
        for line, row in _cells(text, header):
            if wrong := _wrong(row, header):
                errors.append(f"{name} line {line}: {wrong}")
            else:
                rows.append(Row(line, row[header.path], row[header.label].strip()))
    except csv.Error as error:
        errors.append(f"{name} {error}")
    return rows, errors


def _cells(text: str, header: Header) -> Iterator[tuple[int, list[str]]]:
    """(line where it ends, cells) of every row below the header; spreadsheets leave empty ones, which are none.

    Raises:
      csv.Error: a row cannot be read; the message names its line.
    """
    # strict: else a quote left open takes the rest of the file
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter, strict=True)
    read = 0  # lines
    try:
        for row in reader:
            begins, read = read + 1, reader.line_num
            if begins > header.line and any(cell.strip() for cell in row):
                yield read, row
    except csv.Error as error:
        raise csv.Error(
            f"line {read + 1}: the row that begins here cannot be read ({error}); is a quotation mark left open? One "
            'inside a value is written twice, and the value in quotation marks: "a 3"" disk.jpg"'
        ) from error


def _wrong(cells: Sequence[str], header: Header) -> str:
    """Why a row is none; '' if it is one. Empty cells beyond the last column do no harm."""
    values, columns = counted(len(cells), "value"), counted(len(header.names), "column")
    if len(cells) <= max(header.path, header.label):
        return f"it has {values} and no {COLUMNS[header.label >= len(cells)]}, but {columns}"
    if any(cell.strip() for cell in cells[len(header.names) :]):
        return f"it has {values}, but {columns}; a value that holds the delimiter stands in quotation marks"
    if not cells[header.path].strip():
        return f"the label {cells[header.label]!r} stands beside an empty path"
    return ""


def _remarks(file: str, header: Header) -> list[str]:
    others = [name for place, name in enumerate(header.names) if place not in (header.path, header.label)]
    named = [name for name in others if name]
    remarks = [f"{file}: passing over the columns {few(named)}"] if named else []
    if header.names[0] == "" and len(others) > len(named):
        remarks.append(
            f"{file}: passing over the first column, which has no name, as the row numbers of pandas have none"
        )
    return remarks
