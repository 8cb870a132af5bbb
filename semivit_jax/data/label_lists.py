"""Read and write lists of labeled images in the two published conventions.

- CSV with an `Index` column: position in the sorted listing (class folder, then file), counted from 0. Lists
  written here add `Name` and `Listing`.
- Text, one file name per line, with or without its folder (SimCLR's lists). Lists written here begin with
  a comment that holds the listing; no other line is a comment, since names may begin with `#`.

`Listing` is a hash of all training file names; where images have none but numbers (`NameTable.made_up_for`), of all
numbers, labels and class names. A list that carries one is refused on any other set of images; one without (the
published ones) is accepted when every entry is found exactly once.
"""

import csv
import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semivit_jax import files
from semivit_jax.data.sources.listing import NameTable
from semivit_jax.data.splits import SplitError
from semivit_jax.words import counted

_COMMENT = "# listing "
_HASH_LENGTH = 16  # hex digits; 64 bits tell any two listings apart


def listing_id(names: Sequence[str]) -> str:
    """Hash that tells a training set from others: of its sorted file names, or of all of it if it has none."""
    if isinstance(names, NameTable) and names.made_up_for:
        return names.made_up_for[:_HASH_LENGTH]
    return _hash_of(names)


def _hash_of(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()[:_HASH_LENGTH]


def read(path: Path, names: Sequence[str]) -> np.ndarray:
    """Sorted positions (in `names`) of the images a list names.

    Raises:
      SplitError: the file is missing or empty, belongs to another listing, names an image twice or one that
        is not there; with the first offenders.
    """
    if not path.is_file():
        raise SplitError(f"config.data.label_list: there is no file {path}")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    parse = _from_indices if _is_csv(text) else _from_names
    positions = parse(path, text, names)
    doubled = [names[p] for p, count in Counter(positions).items() if count > 1]
    if doubled:
        raise SplitError(f"{path} lists {counted(len(doubled), 'image')} more than once, {doubled[0]!r} first")
    if not positions:
        raise SplitError(f"{path} lists no image")
    return np.sort(np.asarray(positions, np.int64))


def write(path: Path | files.Path, positions: np.ndarray, names: Sequence[str]) -> None:
    """Writes a list, CSV where the file is called *.csv, text otherwise; the same bytes on every host.

    Raises:
      SplitError: a name has a line break, which this kind of list cannot hold.
    """
    listing, chosen = listing_id(names), sorted(names[int(p)] for p in positions)
    breaks, instead = ("\r", "") if path.suffix == ".csv" else ("\r\n", ", or give a list called *.csv")
    broken = next((name for name in chosen if any(sign in name for sign in breaks)), None)
    if broken is not None:
        raise SplitError(f"{path}: the name {broken!r} has a line break, which cannot be written; rename it{instead}")
    if path.suffix == ".csv":
        place = {name: i for i, name in enumerate(sorted(names))}
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["Index", "Name", "Listing"])
        writer.writerows([place[name], name, listing] for name in chosen)
        content = buffer.getvalue()
    else:
        content = "".join(f"{line}\n" for line in [_COMMENT + listing, *chosen])
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(path) as file:
        file.write(content.encode(errors="surrogateescape"))


def _is_csv(text: str) -> bool:
    return "Index" in next(csv.reader([text.partition("\n")[0]]), [])


def _from_indices(path: Path, text: str, names: Sequence[str]) -> list[int]:
    rows = _read_rows(path, text)
    _check_listing(path, rows[0][1].get("Listing") if rows else None, names)
    in_order = sorted(range(len(names)), key=lambda i: names[i])
    positions = []
    for line, row in rows:
        value = row["Index"]
        if value is None:
            raise SplitError(f"{path}, line {line}: the row ends before its Index")
        place = _number(value)
        if place is None or place >= len(names):
            raise SplitError(f"{path}, line {line}: Index is {value!r}; legal are 0 to {len(names) - 1}")
        positions.append(in_order[place])
    return positions


def _read_rows(path: Path, text: str) -> list[tuple[int, dict[str, str | None]]]:
    """(line number, row) of a CSV list."""
    reader = csv.DictReader(io.StringIO(text), strict=True)  # else a quote left open takes the rest of the file
    rows, read = [], 0
    try:
        for row in reader:
            read = reader.line_num
            rows.append((read, row))
    except csv.Error as error:
        raise SplitError(f"{path}: the row after line {read} cannot be read: {error}") from error
    return rows


def _number(text: str) -> int | None:
    """A number without a sign; None for anything else, and for what is far beyond any list."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _from_names(path: Path, text: str, names: Sequence[str]) -> list[int]:
    lines = text.split("\n")
    if lines[0].startswith(_COMMENT):
        _check_listing(path, lines[0].removeprefix(_COMMENT).strip(), names)
    by_name = {name: i for i, name in enumerate(names)}
    by_file: dict[str, list[int]] = {}
    for name, i in by_name.items():
        by_file.setdefault(name.rsplit("/", 1)[-1], []).append(i)
    if lines[0].startswith("#") and lines[0] not in by_name and lines[0] not in by_file:
        lines[0] = ""
    positions, unknown = [], []
    composed: dict[str, list[int]] | None = None  # made when the first name is not found as it is written
    for line in lines:
        if not line:
            continue
        found = [by_name[line]] if line in by_name else by_file.get(line, [])
        if not found and not line.isascii():
            composed = composed or _composed(by_name)
            found = composed.get(unicodedata.normalize("NFC", line), [])
        if len(found) > 1:
            raise SplitError(f"{path}: {line!r} stands in {len(found)} folders; write it with its folder")
        if found:
            positions.append(found[0])
        else:
            unknown.append(line)
    if unknown:
        raise SplitError(
            f"{path}: {counted(len(unknown), 'entry', 'entries')} not in the training set, {unknown[0]!r} first"
        )
    return positions


def _composed(by_name: Mapping[str, int]) -> dict[str, list[int]]:
    """Positions by the composed name: macOS and many tools write accents apart."""
    found: dict[str, list[int]] = {}
    for name, position in by_name.items():
        found.setdefault(unicodedata.normalize("NFC", name), []).append(position)
    return found


def _check_listing(path: Path, stored: str | None, names: Sequence[str]) -> None:
    if not stored or stored == listing_id(names):
        return
    why = f"{path} was made for another set of files (listing {stored}, this one is {listing_id(names)})"
    if stored == _hash_of(names):
        why = (
            f"{path} holds a hash of names that are mere numbers, which other data sets have as well. Draw it again "
            "with `semivit split` and the same seed, or, if it is of this data set, remove the hash"
        )
    raise SplitError(why)
