"""Lists of labeled images in the two published conventions.

- CSV with an `Index` column: position in the sorted listing (class folder, then file), counted from 0. Lists
  written here add `Name` and `Listing`.
- Text, one file name per line, with or without its folder (SimCLR's lists). Lists written here begin with
  a comment that holds the listing.

`Listing` is a hash of all training file names. A list that carries one is refused on any other set of files; one
without (the published ones) is accepted when every entry is found exactly once.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivit_jax.data.splits import SplitError
from semivit_jax.words import counted

_COMMENT = "# listing "
_HASH_LENGTH = 16  # hex digits; 64 bits tell any two listings apart


def listing_id(names: Sequence[str]) -> str:
    """Hash of the sorted file names of a training set."""
    return hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()[:_HASH_LENGTH]


def read(path: Path, names: Sequence[str]) -> np.ndarray:
    """Sorted positions (in `names`) of the images a list names.

    Raises:
      SplitError: the file is missing or empty, belongs to another listing, names an image twice or one that
        is not there; with the first offenders.
    """
    if not path.is_file():
        raise SplitError(f"config.data.label_list: there is no file {path}")
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    parse = _from_indices if _is_csv(text) else _from_names
    positions = parse(path, text, names)
    doubled = [names[p] for p, count in Counter(positions).items() if count > 1]
    if doubled:
        raise SplitError(f"{path} lists {counted(len(doubled), 'image')} more than once, {doubled[0]!r} first")
    if not positions:
        raise SplitError(f"{path} lists no image")
    return np.sort(np.asarray(positions, np.int64))


def write(path: Path, positions: np.ndarray, names: Sequence[str]) -> None:
    """Writes a list, CSV where the file is called *.csv, text otherwise; the same bytes on every host."""
    listing, chosen = listing_id(names), sorted(names[int(p)] for p in positions)
    if path.suffix == ".csv":
        place = {name: i for i, name in enumerate(sorted(names))}
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["Index", "Name", "Listing"])
        writer.writerows([place[name], name, listing] for name in chosen)
        content = buffer.getvalue()
    else:
        content = "".join(f"{line}\n" for line in [_COMMENT + listing, *chosen])
    path.write_bytes(content.encode(errors="surrogateescape"))


def _is_csv(text: str) -> bool:
    return "Index" in next(csv.reader(io.StringIO(text)), [])


def _from_indices(path: Path, text: str, names: Sequence[str]) -> list[int]:
    rows = list(csv.DictReader(io.StringIO(text)))
    _check_listing(path, rows[0].get("Listing") if rows else None, names)
    in_order = sorted(range(len(names)), key=lambda i: names[i])
    positions = []
    for line, row in enumerate(rows, start=2):
        value = row["Index"]
        if not value.strip().isdigit() or int(value) >= len(names):
            raise SplitError(f"{path}, line {line}: Index is {value!r}; legal are 0 to {len(names) - 1}")
        positions.append(in_order[int(value)])
    return positions


def _from_names(path: Path, text: str, names: Sequence[str]) -> list[int]:
    lines = [line.strip("\r") for line in text.split("\n")]
    comments = [line.removeprefix(_COMMENT) for line in lines if line.startswith(_COMMENT)]
    _check_listing(path, comments[0] if comments else None, names)
    by_name = {name: i for i, name in enumerate(names)}
    by_file: dict[str, list[int]] = {}
    for name, i in by_name.items():
        by_file.setdefault(name.rsplit("/", 1)[-1], []).append(i)
    positions, unknown = [], []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        found = [by_name[line]] if line in by_name else by_file.get(line, [])
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


def _check_listing(path: Path, stored: str | None, names: Sequence[str]) -> None:
    if stored and stored != listing_id(names):
        raise SplitError(
            f"{path} was made for another set of files (listing {stored}, this one is {listing_id(names)})"
        )
