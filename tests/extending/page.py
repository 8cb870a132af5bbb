"""docs/extending.md, made from the files of this folder, so that it shows what the tests run."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent

HEAD = """\
# Extending

Made by `make golden` from `tests/extending/`, whose tests run every file below as it stands; do not edit.

A part of your own is a file of your own and a line in a table. A table is a dict, so the line may stand in a program of
your own that is started in place of `semivit`, with the file wherever you keep it:

```python
from semivit_jax.main import run
from semivit_jax.training.writers import WRITERS

from my_package import logger

WRITERS["loss_csv"] = logger.LOSS_CSV
run()
```

What a row holds, field by field, says the docstring of its class; why it is so, [design.md](design.md). With several
hosts every one needs the same file: they compare the package's code at the start, not yours. The stages run in the
order of their table. A part that is to become one of the package's moves into its room, and imports only what stands
before that room in design.md; then the line stands in the table itself.
"""

RULE = """\
A rule gives every unlabeled image of an update its target, its weight and its strength, from the teacher's logits;
its contract is `Row` and `PseudoLabelRule` in `stages/pseudo_label.py`, and the rules that there are, each a file of
`stages/rules/`, are [in rules.md](rules.md). It runs once per update, so that accumulation changes nothing, and what it
remembers travels in checkpoints. The key that chooses it is `config.semi.pseudo_label_rule`; the package's wrappers
stand around it too, as in `aligned(steady)`.

Its numbers are the threshold and those of `config.semi.rule`, the class `RuleConfig`. One of your own is a constant
that `make` closes over; for a key of a config, it is a field there and a value in `rule()` of `configs/_base.py`.
What a rule asks of the student besides are three optional fields: `offset` and `labeled_offset` of its logits, and
`penalty`. A row with a labeled offset sets `adjusts_labeled`, one with a penalty `is_penalised`: the checks of a
recipe know it by them. A rule that evens classes joins `EVENING`, from which advice is taken.
"""

STAGE = """\
A stage says as one value what it takes from the data, what it trains and how it is graded; its contract is
`StageSpec` in `stages/spec.py`, and that of what runs is `Stage` in `stages/stage.py`. Labels, head and score are its
own: here three answers to an image, and an F1 of the sums over all images, which is the mean of nothing. Its recipe
names it in `config.stages` and has its section; `train`, `plan` and the summary then know it, while `predict`,
`export` and the head in `eval` are for classes, and say so.
"""

BACKBONE = """\
A family of models says how its networks are made, cut into groups for the optimizer and counted; its contract is
`Family` in `models/spec.py`. What other libraries call its arrays is a second value, `Exchange` in
`weights/exchange.py`, for weights in and out. The key that chooses one of its sizes is `config.model.variant`;
here `--config.model.variant=mixer_digits --config.model.posemb=none`, since it has no position embeddings and recipes
have those of a ViT. Weights named by `init_from` bring both. `own_folder:model=NAME` takes the names in `per_size` of
`configs/_base.py`.
"""

LOGGER = """\
A logger is given the numbers of every step that is logged or evaluated, once; its contract is `Writer` and `Row` in
`training/loggers/spec.py`. It is opened at every start, in the stage's folder, and removes what it wrote after the
step that the run goes on from. It works in a thread of its own, so that one that fails or hangs is told in a line, and
training goes on. Of several hosts the first alone has loggers. The key that chooses them is `config.log.writers`, here
`--config.log.writers="('jsonl', 'loss_csv')"`.
"""

FORMAT = """\
An export format is a function that writes a classifier into a folder, new or empty. `Weights` are the model, its
arrays, the names of its classes and what it expects its images to look like. `semivit export --format` takes the
table's words.
"""

COMMAND = """\
A subcommand is a function of the arguments after its name, which returns the exit code. The table holds the
function's place and not the function, so that `semivit --help` need not load it. `cli/flags.py` reads the flags that
commands share, and `guarded` makes one line of an expected error.
"""


class Part(NamedTuple):
    """A section of the page: what is added, its lines in tables, and the files that add it."""

    title: str
    told: str
    lines: str
    files: tuple[str, ...]


PARTS = (
    Part(
        "A pseudo-label rule",
        RULE,
        'RULES["steady"] = STEADY  # semivit_jax/stages/rules/__init__.py\n',
        ("rule.py",),
    ),
    Part(
        "A stage",
        STAGE,
        'STAGES["questions"] = SPEC  # semivit_jax/stages/__init__.py\n'
        'LABELS["questions"] = ANSWERS  # semivit_jax/data/rows.py, for labels other than one class\n',
        ("stage.py", "stage_recipe.py"),
    ),
    Part(
        "A backbone",
        BACKBONE,
        'FAMILIES["mixer"] = FAMILY  # semivit_jax/models/families.py\n'
        'EXCHANGES["mixer"] = EXCHANGE  # semivit_jax/weights/exchanges.py\n',
        ("backbone.py",),
    ),
    Part("A logger", LOGGER, 'WRITERS["loss_csv"] = LOSS_CSV  # semivit_jax/training/writers.py\n', ("logger.py",)),
    Part(
        "An export format",
        FORMAT,
        'FORMATS["npz"] = export_npz  # semivit_jax/export/__init__.py\n',
        ("export_format.py",),
    ),
    Part(
        "A subcommand",
        COMMAND,
        'COMMANDS["size"] = ("tests.extending.command:size", WHAT_IT_DOES)  # semivit_jax/main.py\n',
        ("command.py",),
    ),
)


def extending_page() -> str:
    """The whole page; a part whose file is not there is left out."""
    parts = [part for part in PARTS if all((FOLDER / file).exists() for file in part.files)]
    return "\n".join([HEAD, *map(_section, parts)])


def _section(part: Part) -> str:
    shown = [f"`tests/extending/{file}`:\n\n{_code((FOLDER / file).read_text())}" for file in part.files]
    return "\n".join([f"## {part.title}\n", part.told, _code(part.lines), *shown])


def _code(text: str) -> str:
    return f"```python\n{text}```\n"
