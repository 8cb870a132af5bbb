"""Grade weights on a split: `semivit eval`, as JSON or tables, with the protocol."""

from collections.abc import Sequence

import jax
from absl import flags
from rich.markup import escape
from rich.table import Table

from semivit_jax import console, files
from semivit_jax.cli.exits import USAGE_ERRORS, usage_error
from semivit_jax.cli.flags import Given, read_config, read_flags, source_parser
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_file, place
from semivit_jax.data.dataset import ROLES
from semivit_jax.data.opening import Photos
from semivit_jax.inference.grade import grade
from semivit_jax.inference.grades import PROTOCOLS, TOP, Grades, numbers, to_json
from semivit_jax.inference.trained import settled
from semivit_jax.ops.scores import NUM_BINS, Scores
from semivit_jax.recipes.find import FLAG, with_paths
from semivit_jax.weights.folder import is_import
from semivit_jax.words import printable

MOST_ROWS = 20  # classes in a printed table; the JSON has all of them


def eval_weights(argv: Sequence[str]) -> int:
    """Grades params and ema_params on a split; `--config` and its overrides name other data than the run's."""
    parser = source_parser("eval", "Grade weights on a split.", with_use=False)
    parser.add_argument("--split", default="", help=f"default: what training evaluates on; {', '.join(ROLES)}, or any")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="head")
    parser.add_argument("--images", type=place, metavar="FOLDER", help="labeled photos to grade on, all of them")
    parser.add_argument("--labels", type=place, metavar="CSV", help="their labels; without it, class sub-folders")
    parser.add_argument("--out", type=output_file, metavar="JSON", help="file for everything; replaced if it exists")
    try:
        given = read_flags(parser, argv, required=())
        _check(given)
        recipe = given.config or _recipe_of_photos(given)
        config, notes = read_config("eval", recipe, None) if recipe else (None, [])
    except USAGE_ERRORS as error:
        return usage_error("eval", error)

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        asked, folder = given.flags, files.path(given.flags.workdir)
        remark = settled(folder, kept=asked.weights, stage=asked.stage).remark
        found = grade(
            folder,
            config,
            split=asked.split,
            protocol=asked.protocol,
            kept=asked.weights,
            stage=asked.stage,
            photos=Photos(asked.images, asked.labels) if asked.images else None,
            notes=[*notes, remark] if remark else notes,
        )
        if jax.process_index() == 0:
            show(found)
            if asked.out is not None:
                write(asked.out, found)
    return outcome.code


def _check(given: Given) -> None:
    """Raises flags.Error where flags contradict each other."""
    asked = given.flags
    if asked.labels and not asked.images:
        raise flags.Error("--labels needs --images=FOLDER, whose labels they are")
    if asked.images and (asked.split or given.config):
        other = "--split" if asked.split else "--config"
        raise flags.Error(f"--images names the photos to grade on, all of them; leave out {other}")


def _recipe_of_photos(given: Given) -> list[str]:
    """How photos are read where the weights are an import, which has no config of its own."""
    asked = given.flags
    return with_paths([f"{FLAG}own_folder"]) if asked.images and is_import(files.path(asked.workdir)) else []


def write(path: files.Path, grades: Grades) -> None:
    """Writes everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, to_json(grades))


def show(grades: Grades) -> None:
    """Prints the numbers, the classes with the lowest accuracy, and the confusions."""
    # Lines of their own: a table's title is broken at the table's width.
    console.say(grades.source)
    console.say(f"{grades.dataset}, split {grades.split!r}, by {grades.protocol}")
    console.console.print(_summary(grades))
    for tree, found in grades.found.items():
        title, table = _per_class(grades, tree, found)
        console.say(title)
        console.console.print(table)


def _shown(grades: Grades, found: Scores) -> dict[str, float]:
    """The numbers of the table, without what says nothing.

    Five guesses out of five classes or fewer are always right; where labels are not skewed, no class is rare.
    """
    told, left = numbers(grades, found), {"acc5"} if len(grades.class_names) <= TOP else set()
    if not any(name.startswith("acc1_") for name in told):
        left.add("balanced_acc1")
    return {name: value for name, value in told.items() if name not in left}


def _summary(grades: Grades) -> Table:
    calibration = f"ece: expected calibration error, {NUM_BINS} bins"
    shown = [name for found in grades.found.values() for name in _shown(grades, found)]
    table = Table(caption=calibration if "ece" in shown else None)
    table.add_column("weights")
    for tree, found in grades.found.items():
        columns = _shown(grades, found)
        if len(table.columns) == 1:
            for name in ("images", *(name if name == "loss" else f"{name} %" for name in columns)):
                table.add_column(name, justify="right")
        table.add_row(tree, str(found.num_images), *_cells(columns))
        if tree in grades.calibrated:
            temperature, after = grades.calibrated[tree]
            name = f"{tree}, temperature {temperature:.3g}"
            table.add_row(name, str(after.num_images), *_cells(_shown(grades, after)))
    return table


def _cells(columns: dict[str, float]) -> list[str]:
    return [f"{value:.4f}" if name == "loss" else _percent(value) for name, value in columns.items()]


def _per_class(grades: Grades, tree: str, found: Scores) -> tuple[str, Table]:
    """Title, and the confusion matrix where it can be read, and else each class with what it is mostly taken for."""
    names, num_classes = [escape(printable(name)) for name in grades.class_names], len(grades.class_names)
    graded = [i for i in range(num_classes) if found.class_acc[i] is not None]
    whole = num_classes <= MOST_ROWS
    worst = sorted(graded, key=lambda i: found.class_acc[i] or 0.0)[:MOST_ROWS]
    confusion = f"{tree}: images by class (rows: true class, columns: predicted class)"
    table = Table()
    table.add_column("class")
    table.add_column("acc1 %", justify="right")
    for name in names if whole else ("mostly taken for",):
        table.add_column(name, justify="right" if whole else "left")
    for i in graded if whole else worst:
        row = found.confusion.of_label(i)
        if whole:
            counts = dict(zip(row.predictions.tolist(), row.counts.tolist(), strict=True))
            cells = [str(counts.get(j, "")) for j in range(num_classes)]
        else:
            cells = [", ".join(f"{names[j]} ({count})" for _, j, count in row.mistakes.largest(3))]
        table.add_row(names[i], _percent(found.class_acc[i] or 0.0), *cells)
    return confusion if whole else f"{tree}: the {len(worst)} classes of lowest accuracy", table


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
