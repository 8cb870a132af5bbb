"""Draw the labeled images, write them as a list, report classes and duplicates: `semivit split`."""

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from absl import flags
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from semivit_jax import console
from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import config_parser, help_asked, read_config, read_flags
from semivit_jax.config import Config
from semivit_jax.data import label_lists
from semivit_jax.data.dataset import TaskData, describe, open_task
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.words import counted, printable


def split(argv: list[str]) -> int:
    """Draws the labeled subset of a config, reports it, and writes it as a list."""
    parser = config_parser("split")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--duplicates", default="yes")
    try:
        if help_asked("split --config=FILE[:ARGS] --out=LIST [--duplicates=no]", argv):
            return 0
        given = read_flags(parser, argv, required=("config", "out"))
        config, notes = read_config("split", given.config, None)
        duplicates = given.flags.duplicates
        if duplicates not in ("yes", "no"):
            raise flags.Error(f"--duplicates is {duplicates!r}; legal values: yes (as without it), no")
    except USAGE_ERRORS as error:
        return usage_error("split", error)
    from semivit_jax.cli.guarded import guarded  # seconds that help and mistyped flags need not wait for

    for line in notes:
        console.say(line)
    return guarded(lambda: draw(config, given.flags.out, duplicates=duplicates != "no"))


def draw(config: Config, out: Path, *, duplicates: bool) -> None:
    """Writes the labeled images of the config's split to `out` (*.csv or text) and reports the split.

    Args:
      config: names the data and how many images are labeled.
      out: list to write; refused when it exists, since a list is what runs are compared by.
      duplicates: also reads every image and reports those with the same content.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; remove it or give another --out")
    from semivit_jax.stages import label_free  # loads the models, which a mistyped flag need not wait for

    task = open_task(config, workdir=None, label_free=label_free())
    label_lists.write(out, task.split.labeled, task.train.names)
    console.say(describe(task))
    console.console.print(_per_class(task))
    console.say(f"wrote {out}")
    if duplicates:
        console.say("reading every image once for duplicates (--duplicates=no skips this)")
        for line in find_duplicates(task):
            console.say(line)


def _per_class(task: TaskData) -> Table:
    table = Table()
    for column in ("class", "labeled", "other known", "validation"):
        table.add_column(column, justify="left" if column == "class" else "right")
    labels, split = task.train.labels, task.split

    def count(indices: np.ndarray) -> np.ndarray:
        known = labels[indices]
        return np.bincount(known[known >= 0], minlength=len(task.class_names))

    rows = zip(task.class_names, count(split.labeled), count(split.unlabeled), count(split.validation), strict=True)
    for name, *counts in rows:
        table.add_row(escape(printable(name)), *(str(c) for c in counts))
    return table


def find_duplicates(task: TaskData) -> list[str]:
    """One line per content that stands in more than one role (labeled, unlabeled, validation, evaluation).

    Images that cannot be read, such as files that have gone since they were listed, are counted in a last line.
    """
    places: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    unread: list[str] = []
    for role, images, indices in _roles(task):
        hidden = not console.console.is_terminal  # where its bars would be empty lines
        for index in track(indices, f"reading {role}", console=console.console, transient=True, disable=hidden):
            name = images.names[int(index)]
            try:
                content = images.records[int(index)]
            except OSError as error:
                unread.append(f"{name!r} ({error.strerror})")
                continue
            places[hashlib.sha256(content).digest()].append((role, name))
    shared = [p for p in places.values() if len({role for role, _ in p}) > 1]
    lines = ["same content: " + ", ".join(f"{name!r} ({role})" for role, name in p) for p in shared]
    if not lines:
        lines = ["no image stands in two of labeled, unlabeled, validation and evaluation"]
    if unread:
        lines.append(f"{counted(len(unread), 'image')} could not be read and compared, {unread[0]} first")
    return lines


def _roles(task: TaskData) -> list[tuple[str, ImageSet, np.ndarray]]:
    split = task.split
    roles = [
        ("labeled", task.train, split.labeled),
        ("unlabeled", task.train, split.unlabeled),
        ("validation", task.train, split.validation),
    ]
    if task.evaluates_on_validation:
        return roles
    return [*roles, ("evaluation", task.eval, np.arange(len(task.eval)))]
