"""Write numbers and names into sentences: '1 image', '1,200 images', '1.5 MiB', '60 %', "'a', 'b' and 12 more"."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """'1 image', '1,200 images', '2 classes': a number and its noun, whose plural may be given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """'60 %': a share as people read it."""
    return f"{100 * share:.0f} %"


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


def gib(number: float) -> str:
    """'9.30 GiB'; less than a tenth in a smaller unit, as in the one that follows."""
    return f"{number / 2**30:.2f} GiB" if number >= 0.1 * 2**30 else mib(number)


def mib(number: float) -> str:
    if number >= 0.1 * 2**20:
        return f"{number / 2**20:,.1f} MiB"
    return f"{number / 2**10:,.1f} KiB" if number >= 2**10 else f"{number:.0f} bytes"
