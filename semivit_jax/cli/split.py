"""Draw the labeled images, write them as a list, report classes and duplicates: `semivit split`."""

import numpy as np
from absl import flags
from rich.markup import escape
from rich.table import Table

from semivit_jax import console
from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import config_parser, help_asked, read_config, read_flags
from semivit_jax.cli.paths import output_file
from semivit_jax.config import Config
from semivit_jax.data import duplicates, label_lists
from semivit_jax.data.dataset import TaskData, describe, open_task
from semivit_jax.files import Path
from semivit_jax.words import counted, printable


def split(argv: list[str]) -> int:
    """Draws the labeled subset of a config, reports it, and writes it as a list."""
    parser = config_parser("split")
    parser.add_argument("--out", type=output_file)
    parser.add_argument("--duplicates", default="yes")
    try:
        if help_asked("split --config=FILE[:ARGS] --out=LIST [--duplicates=no]", argv):
            return 0
        given = read_flags(parser, argv, required=("config", "out"))
        config, notes = read_config("split", given.config, None)
        compare = given.flags.duplicates
        if compare not in ("yes", "no"):
            raise flags.Error(f"--duplicates is {compare!r}; legal values: yes (as without it), no")
    except USAGE_ERRORS as error:
        return usage_error("split", error)
    from semivit_jax.cli.guarded import guarded  # seconds that help and mistyped flags need not wait for

    for line in notes:
        console.say(line)
    with guarded() as outcome:
        draw(config, given.flags.out, compare=compare != "no")
    return outcome.code


def draw(config: Config, out: Path, *, compare: bool) -> None:
    """Writes the labeled images of the config's split to `out` (*.csv or text) and reports the split.

    Args:
      config: names the data and how many images are labeled.
      out: list to write; refused when it exists, since a list is what runs are compared by.
      compare: also reports images with the same content.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; remove it or give another --out")
    from semivit_jax.stages import label_free  # loads the models, which a mistyped flag need not wait for

    task = open_task(config, workdir=None, label_free=label_free())
    label_lists.write(out, task.split.labeled, task.train.names)
    console.say(describe(task))
    console.console.print(_per_class(task))
    console.say(f"wrote {out}")
    if compare:
        console.say("comparing images for duplicates (--duplicates=no skips this)")
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
    """What to say of images of one content.

    One line per content with several labels, and per content that stands in more than one role (labeled, unlabeled,
    validation, evaluation). Images that cannot be read, such as files that have gone since, are counted
    in a last line.
    """
    found = duplicates.find(task)
    lines = duplicates.told(found)
    if not found.across:
        lines.append("no image stands in two of labeled, unlabeled, validation and evaluation")
    if found.unread:
        lines.append(f"{counted(len(found.unread), 'image')} could not be read and compared, {found.unread[0]} first")
    return lines
