"""Look at the names of classes for what their writer hardly meant: twins, words for nothing, names used once."""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence

from semivit_jax.words import counted, few

UNLABELED_FOLDER = "unlabeled"  # a sub-folder of this name is no class
NONE_LABEL = "-none-"  # label of an image that a person has found to belong to no class
# What pandas, spreadsheets and databases write for no value, in small letters.
_NULLS = frozenset(
    ("nan", "-nan", "<na>", "n/a", "#n/a", "#na", "#n/a n/a", "null", "(null)", "#null!", "#value!", "#ref!", "#name?",
     "#div/0!", "#num!")
)  # fmt: skip
# Words for no class that may be the name of one, in small letters without blanks and hyphens.
_NOTHING = frozenset(
    ("unlabeled", "unlabelled", "unlabeledimages", "unlabelledimages", "unlabeledphotos", "unlabelledphotos", "nolabel",
     "nolabels", "withoutlabel", "unannotated", "untagged", "unsorted", "tosort", "tolabel", "toclassify", "todo",
     "unclassified", "uncategorized", "uncategorised", "unassigned", "unknown", "undefined", "inbox", "none", "na",
     "nil", "tbd", "?", "??", "???", "")
)  # fmt: skip
_CYRILLIC_AND_GREEK = str.maketrans("авекмнорстухіјѕοαν", "abekmhopctyxijsoav")  # letters that look like Latin ones
# What two names may differ in -> the name without it. Each takes what those before it have left.
_STEPS: Mapping[str, Callable[[str], str]] = {
    "the composition of accents": lambda name: unicodedata.normalize("NFC", name),
    "signs that cannot be seen": lambda name: "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc")),
    "spaces": lambda name: " ".join(name.split()),
    "signs that look the same": lambda name: unicodedata.normalize("NFKC", name),
    "upper and lower case": str.casefold,
    "letters of another alphabet": lambda name: name.translate(_CYRILLIC_AND_GREEK),
    "hyphens, underscores and spaces": lambda name: re.sub(r"[\s_\u2010-\u2015-]+", "", name) or name,
    "accents": lambda name: "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c)),
    "the writing of a number": lambda name: re.sub(r"^0*(\d+)(\.0*)?$", r"\1", name),
}


def is_null(label: str) -> bool:
    """Whether a label is what a program writes for no value, or nothing that can be seen."""
    return label.lower() in _NULLS or not any(c.isprintable() and not c.isspace() for c in label)


def remarks(counts: Mapping[str, int], *, by_folder: bool) -> list[str]:
    """One line for each kind of doubt about the names, with what to write for what may have been meant.

    Args:
      counts: class name -> its images.
      by_folder: the names are those of sub-folders, not labels of a CSV file.
    """
    return [
        *_twins(counts),
        *_nothing(counts, by_folder=by_folder),
        *_unprintable([name for name in counts if not name.isprintable()]),
        *_used_once([name for name, count in counts.items() if count == 1]),
    ]


def twin_of(name: str, others: Sequence[str]) -> str:
    """What tells a name from the one of `others` that it may be meant for, in words; '' where there is none."""
    key = _key(name)
    twin = next((other for other in others if _key(other) == key), None)
    return "" if twin is None else f"differs from {twin!a} in {_differences([name, twin])} alone"


def _key(name: str, without: Collection[str] = ()) -> str:
    for what, step in _STEPS.items():
        if what not in without:
            name = step(name)
    return name


def _differences(names: Sequence[str]) -> str:
    """What the names differ in: the steps that it takes to make them one, the nearest ones."""
    needless: set[str] = set()
    for what in reversed(list(_STEPS)):
        if len({_key(name, needless | {what}) for name in names}) == 1:
            needless.add(what)
    return " and ".join(what for what in _STEPS if what not in needless)


def _twins(counts: Mapping[str, int]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(_key(name), []).append(name)
    lines = []
    for names in groups.values():
        if len(names) > 1:
            told = ", ".join(f"{name!a} ({counted(counts[name], 'image')})" for name in names)
            lines.append(
                f"{len(names)} classes differ in {_differences(names)} alone: {told}; they stay {len(names)} classes, "
                "write them the same if they are one"
            )
    return lines


def _nothing(counts: Mapping[str, int], *, by_folder: bool) -> list[str]:
    names = [name for name in counts if is_null(name) or re.sub(r"[\s_-]+", "", name).casefold() in _NOTHING]
    if not names:
        return []
    remedy = f"rename the folder to {UNLABELED_FOLDER!r}" if by_folder else "leave the label empty"
    told = ", ".join(f"{name!a} ({counted(counts[name], 'image')})" for name in names)
    these = counted(len(names), "class has a name", "classes have names")
    return [f"{these} for what has no class: {told}; if these images are without a label, {remedy}"]


def _unprintable(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    these = counted(len(names), "class name holds", "class names hold")
    return [f"{these} signs that cannot be printed, {few(names)}; they are shown with escapes"]


def _used_once(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    if len(names) == 1:
        return [f"the label {names[0]!r} is used once, so none of it is kept for validation; is it spelled as meant?"]
    return [
        f"{len(names)} labels are used once, so none of them is kept for validation: {few(names)}; are they spelled as "
        "meant?"
    ]
