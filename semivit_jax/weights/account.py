"""Report what became of every source tensor and of every parameter of the model."""

import dataclasses
import enum
import re
from collections.abc import Mapping

from rich.table import Table

_BLOCK_NUMBER = re.compile(r"(?<=\.)\d+(?=\..*\.)|(?<=block_)\d+(?=/)")


class Status(enum.StrEnum):
    LOADED = "loaded"
    RESIZED = "resized"
    REINITIALISED = "re-initialised"
    LEFT_OVER = "left over"


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter of ours, or source tensors that became none.

    Attributes:
      status: what became of it.
      path: our "/"-joined path; "" for what was left over.
      names: source tensors; empty for what was re-initialised.
      source_shape: in our layout; None for what was re-initialised.
      shape: ours; None for what was left over, or is drawn by the run that starts from here.
      note: the reason, or what happened on the way; may be empty.
    """

    status: Status
    path: str
    names: tuple[str, ...]
    source_shape: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    note: str


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """Rows of the weights and, where the source has one, of their moving average; notes say what was assumed."""

    source: str
    kind: str
    params: tuple[Row, ...]
    ema_params: tuple[Row, ...] | None
    notes: tuple[str, ...]

    def to_json(self) -> dict:
        """Plain dict, read back by `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping) -> "ImportReport":
        """Inverse of `to_json`; earlier records have no notes."""
        ema = record["ema_params"]
        return cls(
            source=record["source"],
            kind=record["kind"],
            params=tuple(map(_row_from_json, record["params"])),
            ema_params=None if ema is None else tuple(map(_row_from_json, ema)),
            notes=tuple(record.get("notes", ())),
        )

    def tables(self) -> list[Table]:
        """One table per set of weights, for `rich.console.Console.print`."""
        tables = [_table(f"{self.source}: {self.kind}, weights", self.params)]
        if self.ema_params is not None:
            tables.append(_table(f"{self.source}: {self.kind}, moving average of the weights", self.ema_params))
        return tables


def _row_from_json(record: Mapping) -> Row:
    def shape(value: list | tuple | None) -> tuple[int, ...] | None:
        return None if value is None else tuple(value)

    return Row(
        status=Status(record["status"]),
        path=record["path"],
        names=tuple(record["names"]),
        source_shape=shape(record["source_shape"]),
        shape=shape(record["shape"]),
        note=record["note"],
    )


def _table(title: str, rows: tuple[Row, ...]) -> Table:
    counts = {status: sum(row.status is status for row in rows) for status in Status}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    table = Table(title=title, caption=summary)
    for column in ("status", "parameter", "source", "shape", "note"):
        table.add_column(column, overflow="fold")  # a long name is broken, never cut
    for row in rows:
        table.add_row(row.status, row.path, _summary(row.names), _shapes(row), row.note)
    return table


def _shapes(row: Row) -> str:
    shapes = [shape for shape in (row.source_shape, row.shape) if shape is not None]
    return " -> ".join("x".join(map(str, shape)) or "scalar" for shape in dict.fromkeys(shapes))


def _summary(names: tuple[str, ...]) -> str:
    """Names of all blocks as one, the block number starred."""
    return ", ".join(dict.fromkeys(_BLOCK_NUMBER.sub("*", name) for name in names))
