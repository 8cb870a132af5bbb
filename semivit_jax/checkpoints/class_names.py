"""Whether a head's outputs mean the classes of the data at hand."""

from collections.abc import Sequence

from semivit_jax.words import counted

_MOST = 3  # differing outputs that are spelled out


def mismatch(theirs: Sequence[str] | None, ours: Sequence[str]) -> str:
    """Says how the class names of a head differ from those of the data.

    Args:
      theirs: one name per output of the head, in order; None where nobody stored them.
      ours: names of the data's classes, in order.

    Returns:
      Such as "output 0 is 'cat' there and 'dog' here (1 of 3 class names differ)"; "" where all agree.
    """
    if theirs is None:
        return "no class names are stored with it, so its outputs are taken for the data's classes in their order"
    if len(theirs) != len(ours):  # imports of earlier versions did not count them
        return f"it stores {counted(len(theirs), 'class name')}, the data have {counted(len(ours), 'class', 'classes')}"
    differing = [(i, a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
    if not differing:
        return ""
    told = ", ".join(f"output {i} is {a!r} there and {b!r} here" for i, a, b in differing[:_MOST])
    rest = ", ..." if len(differing) > _MOST else ""
    return f"{told}{rest} ({len(differing)} of {len(ours)} class names differ)"
