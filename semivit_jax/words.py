"""Write numbers and names into sentences: '1 image', '1,200 images', "'a', 'b' and 12 more"."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """'1 image', '1,200 images', '2 classes': a number and its noun, whose plural may be given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, in quotation marks, and how many there are beside: "'a', 'b' and 12 more"."""
    rest = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")


def shortened(lines: Sequence[str], most: int = 20) -> list[str]:
    """The first lines of a list, and one that counts the others."""
    rest = len(lines) - most
    return [*lines[:most], *([f"... and {rest:,} more"] if rest > 0 else [])]


def printable(name: str) -> str:
    """A name as it is, or with escapes and quotation marks where signs in it cannot be printed or break the line."""
    return name if name.isprintable() else repr(name)
