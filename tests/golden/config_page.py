"""docs/config.md, made from the sections, their comments and the recipes, so that no key is missing or stale."""

import ast
import dataclasses
import inspect
import math
import re
import tokenize
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from semivit_jax.config import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, RUNTIME, Config, Mark, Range, StageConfig, flatten
from semivit_jax.models import families
from semivit_jax.ops.optim import SCHEDULES
from semivit_jax.recipes import keys
from semivit_jax.stages import STAGES
from semivit_jax.stages.rules import RULES, WRAPPERS
from semivit_jax.stages.supervised import SupervisedConfig
from semivit_jax.training.writers import WRITERS
from tests.golden.recipes import RECIPES, load

HEAD = """\
# Every config key

Made by `make golden` from `semivit_jax/config.py`, the stages and the recipes; do not edit.

A recipe gives every key a value: there are no hidden defaults. The first command changes one, the second lists all of
a recipe with their values:

    semivit train --config=digits --config.semi.base_lr=1e-2 --workdir=runs/other
    semivit train --config=digits --help

The columns:

- *unit*: of a number; a share is a number from 0 to 1.
- *legal*: the type, and the range or the words that are accepted. Anything else is refused before training.
- *restart*: **yes** where a run that goes on in its workdir may have another value. All other keys make the experiment
  what it is: a workdir refuses them, and names those that differ.
- *recipes*: the values in `configs/`, by file. `lowest … highest` stands for more than three, *others* for all files
  that are not named and have the key. Values of each single recipe: `tests/golden/configs/`.
"""

# What a number counts, by the end of its key; the first that fits.
UNITS = (
    (r"images_per_device$|batch_size$|group_size$", "images"),
    (r"max_pixels$|image_size$", "pixels"),
    (r"epochs$", "epochs"),
    (r"steps$|profile_at$|window_steps$|in_a_row$", "updates"),
    (r"seconds$", "seconds"),
    (r"minutes$", "minutes"),
    (r"degrees$", "degrees"),
    (r"shift$", "share of the side"),
    (r"labels_per_class$", "images per class"),
    (r"acc1$", "percent"),
    (r"(share|prob|fraction|rate|ratio|threshold|smoothing|decay|jitter|crop_scale)$", "share"),
)
RULE_WORDS = [*RULES, *(f"{name}(...)" for name in WRAPPERS)]
NO_UNIT = ("unlabeled_ratio", "weight_decay")  # a ratio of counts and a factor, which the table above would misread
QUOTED = re.compile(r"(?<!\w)'([^']*)'(?!\w)")
MOST_VALUES, LONGEST = 3, 80  # of a recipe file, that are listed one by one; signs


def config_page() -> str:
    """The whole page.

    Raises:
      ValueError: a key without a comment that says what it means.
    """
    flat = {file: [flatten(load(file, arguments)) for arguments in rows] for file, rows in RECIPES.items()}
    return "\n".join([HEAD, *(_section(*each, flat) for each in _sections())])


def _sections() -> Iterator[tuple[str, str, type, tuple[str, ...], dict[str, keys.Key]]]:
    """(heading, what it is, class, prefixes of its keys, its own keys), in reading order."""
    stages = {stage: spec.section for stage, spec in STAGES.items()}
    whole = keys.of_section(Config)
    yield "The run", Config.__doc__ or "", Config, ("",), {k: v for k, v in whole.items() if _dataclass(v.kind) is None}
    for name, key in whole.items():
        section = _dataclass(key.kind)
        if section is not None and name not in stages:
            yield from _nested(name, section)
        if section is not None and name == next(iter(stages)):
            yield from _of_stages(stages)


def _nested(prefix: str, section: type) -> Iterator[Any]:
    """A section, then those inside it; the four affine views share one table."""
    own = keys.of_section(section)
    inner = {name: inside for name, key in own.items() if (inside := _dataclass(key.kind)) is not None}
    plain = {name: key for name, key in own.items() if name not in inner}
    if plain:
        yield f"`{prefix}`", section.__doc__ or "", section, (f"{prefix}.",), plain
    if len(inner) > 1 and len(set(inner.values())) == 1:
        views = " ".join(f"`{name}`: {text}." for name, text in _meanings(section).items())
        shared = next(iter(inner.values()))
        told = f"{section.__doc__} {shared.__doc__} {views}"
        prefixes = tuple(f"{prefix}.{name}." for name in inner)
        yield f"`{prefix}.VIEW`", told, shared, prefixes, keys.of_section(shared)
        return
    for name, inside in inner.items():
        yield from _nested(f"{prefix}.{name}", inside)


def _of_stages(stages: Mapping[str, type]) -> Iterator[Any]:
    """What all stages have, what the supervised ones have besides, then what is a stage's own."""
    supervised = [name for name, section in stages.items() if issubclass(section, SupervisedConfig)]
    shown: set[str] = set()
    for heading, section, names in (
        ("Every stage: " + _words(stages), StageConfig, list(stages)),
        ("Stages with labels: " + _words(supervised), SupervisedConfig, supervised),
        *((f"`{name}`", section, [name]) for name, section in stages.items()),
    ):
        own = {name: key for name, key in keys.of_section(section).items() if name not in shown}
        inner = {name: inside for name, key in own.items() if (inside := _dataclass(key.kind)) is not None}
        shown |= own.keys() if len(names) > 1 else set()
        if own:
            plain = {name: key for name, key in own.items() if name not in inner}
            yield heading, section.__doc__ or "", section, tuple(f"{name}." for name in names), plain
        for name, inside in inner.items():
            yield from _nested(f"{names[0]}.{name}", inside)


def _section(
    heading: str, told: str, section: type, prefixes: tuple[str, ...], own: Mapping[str, keys.Key], flat: Any
) -> str:
    meanings, beside = _meanings(section), keys.marks()
    rows = [("key", "meaning", "unit", "legal", "restart", "recipes"), ("---",) * 6]
    for name, key in own.items():
        if name not in meanings:
            raise ValueError(f"{section.__name__}.{name} has no comment that says what it means")
        full = [prefix + name for prefix in prefixes]
        runtime = "yes" if RUNTIME in beside[full[0]] else "no"
        meaning = QUOTED.sub(r"`'\1'`", meanings[name][0].upper() + meanings[name][1:])
        rows.append((f"`{name}`", meaning, _unit(name, key), _legal(name, key), runtime, _values(full, flat)))
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
    return f"## {heading}\n\n{' '.join(told.split())}\n\n{table}"


def _meanings(section: type) -> dict[str, str]:
    """Key -> the comment beside it, or above it; of the classes that the section is made from too."""
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__[:-1]):
        source = inspect.getsource(cls)
        lines = iter(source.splitlines(keepends=True))
        comments = {
            token.start[0]: (token.string.lstrip("# "), token.line.strip().startswith("#"))
            for token in tokenize.generate_tokens(lambda lines=lines: next(lines, ""))
            if token.type == tokenize.COMMENT
        }
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign):
                text = _comment(comments, node.lineno, node.end_lineno or node.lineno)
                found |= {ast.unparse(node.target): text} if text else {}
    return found


def _comment(comments: Mapping[int, tuple[str, bool]], first: int, last: int) -> str:
    beside, alone = comments.get(last, ("", True))
    if beside and not alone:
        return beside
    above = first - 1
    while comments.get(above, ("", False))[1]:
        above -= 1
    return " ".join(comments[line][0] for line in range(above + 1, first)).rstrip(".")


def _unit(name: str, key: keys.Key) -> str:
    if not {int, float} & {key.kind, *typing.get_args(key.kind)} or name in NO_UNIT:
        return ""
    return next((unit for pattern, unit in UNITS if re.search(pattern, name)), "")


def _legal(name: str, key: keys.Key) -> str:
    words = [mark for mark in key.marks if not isinstance(mark, Mark | Range)]
    if name in ("pool", "posemb", "attention"):
        words.append(dict.fromkeys(word for f in families.FAMILIES.values() for word in f.legal[name]))
    tables = {"variant": families.variants(), "schedule": SCHEDULES, "stages": STAGES, "writers": WRITERS,
              "pseudo_label_rule": RULE_WORDS}  # fmt: skip
    words += [tables[name]] if name in tables else []
    if words:
        return _words(words[0])
    ranges = [_range(mark) for mark in key.marks if isinstance(mark, Range)]
    return ", ".join([_kind(key.kind), *ranges])


def _kind(kind: Any) -> str:
    names = {int: "whole number", float: "number", str: "text", bool: "`True` or `False`"}
    if typing.get_origin(kind) is tuple:
        return f"{len(typing.get_args(kind))} numbers"
    return names[kind]


def _range(legal: Range) -> str:
    known = {POSITIVE: "above 0", NOT_NEGATIVE: "0 or more", AT_LEAST_ONE: "1 or more"}
    if legal in known:
        return known[legal]
    return f"{legal.low:g} or more" if math.isinf(legal.high) else f"{legal.low:g} to {legal.high:g}"


def _values(full: list[str], flat: Mapping[str, list[dict[str, Any]]]) -> str:
    """What the recipes say; of a key that several sections have a line for each, unless all agree."""
    by_section = {name.split(".")[-2]: _of_files(name, flat) for name in full} if len(full) > 1 else {}
    if len(set(by_section.values())) > 1:
        return "<br>".join(f"*{section}:* {told}" for section, told in by_section.items())
    return _of_files(full[0], flat)


def _of_files(name: str, flat: Mapping[str, list[dict[str, Any]]]) -> str:
    """Values by file, those of one answer together; the most common one last, without its files."""
    by_answer: dict[str, list[str]] = {}
    for file, configs in flat.items():
        found = list(dict.fromkeys(_plain(config[name]) for config in configs if name in config))
        if found:
            by_answer.setdefault(_told(found), []).append(file)
    common = max(by_answer, key=lambda answer: len(by_answer[answer]))
    if len(by_answer) == 1:
        return common
    others = [f"{answer} {', '.join(files)}" for answer, files in by_answer.items() if answer != common]
    rest = by_answer[common]
    return "; ".join([*others, f"{common} {rest[0] if len(rest) == 1 else 'others'}"])


def _told(values: list[Any]) -> str:
    listed = ", ".join(f"`{value!r}`" for value in values)
    if len(values) <= MOST_VALUES and len(listed) <= LONGEST:
        return listed
    if all(isinstance(value, int | float) for value in values):
        return f"`{min(values)!r} … {max(values)!r}`"
    return f"{len(values)} different"


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _dataclass(kind: Any) -> type | None:
    inner = [k for k in (kind, *typing.get_args(kind)) if isinstance(k, type) and dataclasses.is_dataclass(k)]
    return inner[0] if inner else None
