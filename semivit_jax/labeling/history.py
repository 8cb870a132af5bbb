"""Say what was done to labels: entries that change images and classes, undone and done again without end."""

import dataclasses
import json
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

Label = str | None
"""Of an image: '' for none yet, None for one that was skipped, else the name of a class, or `-none-`."""


class Change(NamedTuple):
    """The label of one image, before and after."""

    path: str
    before: Label
    after: Label


class ClassEdit(NamedTuple):
    """One place in the list of classes: a name that came (before is None), went (after is None) or became another."""

    place: int
    before: str | None
    after: str | None


@dataclasses.dataclass(frozen=True)
class Entry:
    """Something that was done.

    Attributes:
      id: no other entry has it.
      when: UTC, as ISO 8601 has it.
      who: did it.
      do: 'label', 'class' (add, rename or merge), 'undo', 'redo', 'outside' for what others wrote into the file, or
        'start' for classes that a start of the server brought, which nobody undoes.
      of: id of the entry that an undo or redo is of; '' of others.
      words: what was done, for people.
      changes: of labels.
      classes: edits of the list of classes, one after the other.
    """

    id: str
    when: str
    who: str
    do: str
    of: str
    words: str
    changes: tuple[Change, ...]
    classes: tuple[ClassEdit, ...]

    def to_json(self) -> str:
        """One line; names that are no text keep their bytes as `os.fsdecode` has them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        """The entry of a line.

        Raises:
          ValueError: it is no such line.
        """
        try:
            found = json.loads(line)
            changes = tuple(Change(*change) for change in found.pop("changes"))
            return cls(changes=changes, classes=tuple(ClassEdit(*edit) for edit in found.pop("classes")), **found)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not an entry: {error}") from error


@dataclasses.dataclass
class History:
    """Where all entries lead to.

    Attributes:
      labels: path -> label, of images that have one or were skipped.
      classes: their names, in the order of the keys that choose them.
      done: entries that can be undone, the latest last.
      undone: entries that can be done again, the next one last.
      ids: of all entries.
    """

    labels: dict[str, Label] = dataclasses.field(default_factory=dict)
    classes: list[str] = dataclasses.field(default_factory=list)
    done: list[Entry] = dataclasses.field(default_factory=list)
    undone: list[Entry] = dataclasses.field(default_factory=list)
    ids: set[str] = dataclasses.field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Does what an entry says."""
        self.ids.add(entry.id)
        for change in entry.changes:
            if change.after == "":
                self.labels.pop(change.path, None)
            else:
                self.labels[change.path] = change.after
        for edit in entry.classes:
            self.classes[edit.place : edit.place + (edit.before is not None)] = [edit.after] if edit.after else []
        if entry.do == "undo":
            self.undone.append(self.done.pop())
        elif entry.do == "redo":
            self.done.append(self.undone.pop())
        else:
            self.undone.clear()
            if entry.do != "start":
                self.done.append(entry)


def inverse(entry: Entry) -> tuple[tuple[Change, ...], tuple[ClassEdit, ...]]:
    """What takes an entry back."""
    changes = tuple(Change(path, after, before) for path, before, after in reversed(entry.changes))
    return changes, tuple(ClassEdit(place, after, before) for place, before, after in reversed(entry.classes))


def ever_was(labels: Mapping[str, str], entries: Iterable[Entry], *, among: Container[str]) -> bool:
    """Whether a table holds what entries once led to, be it nothing: then it was left behind, and not edited.

    Args:
      labels: path -> label of the table.
      entries: from the beginning.
      among: paths that count.
    """
    state: dict[str, str] = {}
    differing = len(labels)
    for entry in entries:
        if not differing:
            return True
        for path, _, after in entry.changes:
            if path in among:
                there = labels.get(path, "")
                differing += (state.get(path, "") == there) - ((after or "") == there)
                state[path] = after or ""
    return not differing


def replayed(entries: Iterable[Entry]) -> History:
    """Where entries lead to, from the beginning."""
    history = History()
    for entry in entries:
        history.add(entry)
    return history
