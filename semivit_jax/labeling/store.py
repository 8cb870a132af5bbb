"""Hold the labels that pages change: each change is in the journal and in the table before it is answered."""

import dataclasses
import datetime
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from semivit_jax.data.sources import class_names
from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.label_paths import Images
from semivit_jax.labeling import asked as asking
from semivit_jax.labeling.asked import Asked, Refused
from semivit_jax.labeling.history import Change, ClassEdit, Entry, Label, ever_was, inverse, replayed
from semivit_jax.labeling.journal import Journal, beside
from semivit_jax.labeling.table import Table
from semivit_jax.words import counted, printable


class Answer(NamedTuple):
    """To one thing that was asked for.

    Attributes:
      id: of it.
      done: whether it is in the journal.
      words: what was done or why not, and what is doubtful about it, for people; '' where all is as expected.
    """

    id: str
    done: bool
    words: str


class News(NamedTuple):
    """What has changed since a version.

    Attributes:
      version: of now.
      labels: place -> label of each image whose label has changed.
      classes: all of them.
      undo, redo: the entries that can be undone and done again next; None where there is none.
      problem: why the table cannot be written; '' where it could.
    """

    version: int
    labels: dict[int, Label]
    classes: list[str]
    undo: Entry | None
    redo: Entry | None
    problem: str


class Labels:
    """The labels of a folder; several threads may ask."""

    def __init__(self, file: Path, root: Path, names: Sequence[str], *, who: str, classes: Sequence[str]):
        """Reads table and journal, and brings together what a kill or another program left apart.

        Args:
          file: the table; its journal is beside it.
          root: folder of the images.
          names: of the images.
          who: does what is asked for.
          classes: to choose from, beside those that there are.

        Raises:
          DatasetError: the table has mistakes. JournalError: see `Journal`.
        """
        self.names, self.file, self._who = names, file, who
        self._images = Images(root, names)
        self._place = {name: place for place, name in enumerate(names)}
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._table = Table(file, self._images)
        self._journal = Journal(beside(file))
        self._history = replayed(self._journal.entries)
        self._log: list[tuple[int, ...]] = []  # per version, places whose label changed
        self._problem = ""
        self._unwritten = {*self._history.labels, *self._table.labels}  # images whose label may not be in the table
        is_older = self._history.ids and self._table.time <= self._journal.time
        if is_older and ever_was(self._table.labels, self._journal.entries, among=self._place):
            # The process was killed between the two, or the table has gone. An edit would have made it the younger one,
            # or, where both were copied, one that never was.
            self._write()
        self._take_outside()
        missing = [name for name in classes if name not in self._history.classes]
        if missing:
            self._add(self._entry("start", f"add {counted(len(missing), 'class', 'classes')}", (), missing))

    @property
    def known(self) -> int:
        """Images with a label."""
        return len(self._table.labels)

    def place_of(self, name: str) -> int | None:
        """Place of an image; None where there is none of that name."""
        return self._place.get(name)

    def snapshot(self) -> tuple[int, dict[Label, list[int]]]:
        """The version, and the images of each label that there is."""
        with self._lock:
            found: dict[Label, list[int]] = {}
            for path, label in self._history.labels.items():
                if (place := self._place.get(path)) is not None:
                    found.setdefault(label, []).append(place)
            return len(self._log), found

    def since(self, version: int) -> News:
        """What has changed since a version, also by other programs."""
        with self._lock:
            self._look_outside()
            return self._news(version)

    def act(self, wanted: Sequence[Asked], version: int) -> tuple[list[Answer], News]:
        """Does what is asked for, one after the other; what is refused changes nothing.

        Raises:
          OSError: the journal cannot be written; what was done before is in it, the rest is not done.
        """
        with self._lock:
            if not self._look_outside():
                refused = [Answer(asked.id, False, self._problem) for asked in wanted]
                return refused, self._news(version, shown_otherwise=_images_of(wanted))
            answers = [self._answer(asked) for asked in wanted]
            try:
                self._write()
                self._problem = ""
            except OSError as error:
                self._problem = f"{self.file.name} cannot be written, its journal is; tried again next time: {error}"
            refused = [asked for asked, answer in zip(wanted, answers, strict=True) if not answer.done]
            return answers, self._news(version, shown_otherwise=_images_of(refused))

    def close(self) -> None:
        self._journal.close()

    def _answer(self, asked: Asked) -> Answer:
        if asked.id in self._history.ids:  # asked again, since the answer was lost
            return Answer(asked.id, True, "")
        try:
            entry, words = _DOES[asked.do](self, asked)
        except Refused as error:
            return Answer(asked.id, False, str(error))
        if entry is not None:
            self._add(entry)
        return Answer(asked.id, True, words)

    def _label(self, asked: Asked) -> tuple[Entry | None, str]:
        label = asked.label if asked.label in (None, "", NONE_LABEL) else self._class_name(asked.label)
        paths = [self.names[place] for place in asked.images]
        before = [self._history.labels.get(path, "") for path in paths]
        for path, seen, now in zip(paths, asked.seen, before, strict=True):
            if seen != now and now != label:
                raise Refused(f"{printable(path)} is {told(now)} meanwhile, from another page or program; look again")
        changes = tuple(Change(path, now, label) for path, now in zip(paths, before, strict=True) if now != label)
        if not changes:
            return None, ""
        new = [label] if label not in (None, "", NONE_LABEL, *self._history.classes) else []
        what = printable(paths[0]) if len(paths) == 1 else counted(len(paths), "image")
        return self._entry("label", f"{what}: {told(label)}", changes, new, asked.id), self._doubt(new)

    def _class_name(self, written: str) -> str:
        """The name of a class: one that there is, however a table has brought it, or a legal new one."""
        return written if written in self._history.classes else asking.class_name(written)

    def _add_class(self, asked: Asked) -> tuple[Entry | None, str]:
        name = asking.class_name(asked.name)
        if name in self._history.classes:
            raise Refused(f"there is a class {name!r} already")
        return self._entry("class", f"new class {name}", (), [name], asked.id), self._doubt([name])

    def _rename(self, asked: Asked) -> tuple[Entry | None, str]:
        """Renames a class; one of the new name takes its images."""
        old, new, classes = asked.name, self._class_name(asked.new), self._history.classes
        if old not in classes:
            raise Refused(f"there is no class {old!r} any more")
        if old == new:
            return None, ""
        merges = new in classes
        changes = tuple(Change(path, old, new) for path, label in self._history.labels.items() if label == old)
        edit = ClassEdit(classes.index(old), old, None if merges else new)
        words = f"class {old} {'merged into' if merges else 'renamed to'} {new}"
        entry = dataclasses.replace(self._entry("class", words, changes, [], asked.id), classes=(edit,))
        return entry, "" if merges else self._doubt([new], but=old)

    def _undo(self, asked: Asked) -> tuple[Entry | None, str]:
        return self._back(asked, "undo", self._history.done)

    def _redo(self, asked: Asked) -> tuple[Entry | None, str]:
        return self._back(asked, "redo", self._history.undone)

    def _back(self, asked: Asked, do: str, stack: Sequence[Entry]) -> tuple[Entry | None, str]:
        if not stack:
            raise Refused(f"there is nothing to {do}")
        latest = stack[-1]
        if latest.id != asked.of:
            raise Refused(f"the latest is another by now ({latest.words}); ask again to {do} that")
        changes, classes = inverse(latest) if do == "undo" else (latest.changes, latest.classes)
        entry = self._entry(do, f"{do}: {latest.words}", changes, [], asked.id)
        return dataclasses.replace(entry, of=latest.id, classes=classes), entry.words

    def _entry(
        self, do: str, words: str, changes: tuple[Change, ...], new_classes: Sequence[str], id: str = ""
    ) -> Entry:
        first = len(self._history.classes)
        return Entry(
            id=id or uuid.uuid4().hex,
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            who=self._who,
            do=do,
            of="",
            words=words,
            changes=changes,
            classes=tuple(ClassEdit(first + number, None, name) for number, name in enumerate(new_classes)),
        )

    def _doubt(self, new: Sequence[str], but: str = "") -> str:
        """What is doubtful about a new class, in words; '' where nothing is."""
        others = [name for name in self._history.classes if name != but]
        doubts = [f"the class {name!r} {twin}" for name in new if (twin := class_names.twin_of(name, others))]
        return doubts[0] if doubts else ""

    def _add(self, entry: Entry) -> None:
        """Writes an entry into the journal; from here on it counts."""
        self._journal.add([entry])
        self._history.add(entry)
        self._unwritten |= {change.path for change in entry.changes}
        self._log.append(tuple(self._place[c.path] for c in entry.changes if c.path in self._place))

    def _write(self) -> None:
        """Brings the table to what the journal says; `act` calls it once for all that was asked for."""
        there, ours = self._table.labels, self._history.labels
        labels = {path: ours.get(path) or "" for path in self._unwritten if path in self._place}
        differing = {path: label for path, label in labels.items() if there.get(path, "") != label}
        if differing or self._table.is_stale:
            self._table.write(differing)
        self._unwritten.clear()

    def _look_outside(self) -> bool:
        """Takes what another program has written; whether the table can be read, so that it may be written anew."""
        try:
            if self._table.changed_outside():
                self._take_outside()
        except (OSError, DatasetError) as error:
            self._problem = f"nothing is saved: another program has changed {self.file.name}: {error}"
            return False
        return True

    def _take_outside(self) -> None:
        """Takes what another program has written into the table as something that was done."""
        self._table.read()
        ours, theirs = self._history.labels, self._table.labels
        paths = [path for path in {**ours, **theirs} if (ours.get(path) or "") != theirs.get(path, "")]
        changes = tuple(Change(path, ours.get(path, ""), theirs.get(path, "")) for path in paths if path in self._place)
        known = set(self._history.classes)
        new = sorted({label for label in theirs.values() if label not in known and label != NONE_LABEL})
        if changes or new:
            words = f"{counted(len(changes), 'label')} in {self.file.name} by another program"
            self._add(self._entry("outside", words, changes, new))

    def _news(self, version: int, shown_otherwise: Iterable[int] = ()) -> News:
        """What has changed since a version; and labels of images that a page shows with others, which were refused."""
        places = {*shown_otherwise, *(place for changed in self._log[version:] for place in changed)}
        history = self._history
        return News(
            version=len(self._log),
            labels={place: history.labels.get(self.names[place], "") for place in places},
            classes=list(history.classes),
            undo=history.done[-1] if history.done else None,
            redo=history.undone[-1] if history.undone else None,
            problem=self._problem,
        )


_DOES: dict[str, Callable[[Labels, Asked], tuple[Entry | None, str]]] = {
    "label": Labels._label,
    "add": Labels._add_class,
    "rename": Labels._rename,
    "undo": Labels._undo,
    "redo": Labels._redo,
}


def _images_of(wanted: Iterable[Asked]) -> set[int]:
    return {place for asked in wanted for place in asked.images}


def told(label: Label) -> str:
    """A label in words."""
    if label is None:
        return "skipped"
    return {"": "without a label", NONE_LABEL: "of no class"}.get(label, label)
