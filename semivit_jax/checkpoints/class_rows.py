"""Match the outputs of a head by the names of their classes, where weights meet other classes than before."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import ConfigError
from semivit_jax.words import counted, few

_MOST_OUTPUTS = 3  # differing outputs of a head that are spelled out


class Rows(NamedTuple):
    """Outputs of one name: number `ours[i]` here is number `theirs[i]` there; and the names that one side has alone."""

    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        told = f"{len(self.ours)} of {counted(len(self.ours) + len(self.new), 'class', 'classes')}"
        told += f"; new: {few(self.new)}" if self.new else ""
        return told + (f"; left behind: {few(self.left)}" if self.left else "")


def match(theirs: Sequence[str] | None, ours: Sequence[str], renamed: str) -> Rows | None:
    """Which outputs of two heads belong together.

    Args:
      theirs: one name per output, in order; None where nobody stored them.
      ours: names of the data's classes, in order.
      renamed: config.data.renamed.

    Returns:
      None where the head fits as it is, or no name is in common: it is then taken, or left, as a whole.

    Raises:
      ConfigError: `renamed` is no list of pairs, or names a class that is not there.
    """
    if theirs is None:
        if renamed:
            raise ConfigError(f"config.data.renamed is {renamed!r}, but the earlier weights store no class names")
        return None
    new_names = _pairs(renamed, theirs, ours)
    names = [new_names.get(name, name) for name in theirs]
    place = {name: number for number, name in enumerate(names)}
    shared = [(number, place[name]) for number, name in enumerate(ours) if name in place]
    if not shared or list(theirs) == list(ours):
        return None
    known = set(ours)
    return Rows(
        ours=tuple(number for number, _ in shared),
        theirs=tuple(number for _, number in shared),
        new=tuple(name for name in ours if name not in place),
        left=tuple(name for name in names if name not in known),
    )


def fill(fresh: jax.Array, theirs: np.ndarray | jax.Array, rows: Rows) -> jax.Array:
    """A tensor of our head, classes last: theirs where a class is matched, else as it was; placed as it was."""
    ours, taken = np.array(rows.ours), np.array(rows.theirs)

    def filled(fresh: jax.Array, theirs: jax.Array) -> jax.Array:
        return fresh.at[..., ours].set(theirs[..., taken].astype(fresh.dtype))

    return jax.jit(filled, out_shardings=fresh.sharding)(fresh, jnp.asarray(theirs))


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
    told = ", ".join(f"output {i} is {a!r} there and {b!r} here" for i, a, b in differing[:_MOST_OUTPUTS])
    rest = ", ..." if len(differing) > _MOST_OUTPUTS else ""
    return f"{told}{rest} ({len(differing)} of {len(ours)} class names differ)"


def _pairs(renamed: str, theirs: Sequence[str], ours: Sequence[str]) -> Mapping[str, str]:
    """Old name to new one."""
    pairs = dict(pair.split(":", 1) for pair in renamed.split(",") if ":" in pair)
    if renamed and len(pairs) != len(renamed.split(",")):
        raise ConfigError(
            f"config.data.renamed is {renamed!r}; it must be OLD:NEW, several of them with commas between"
        )
    for known, names, where in ((theirs, pairs, "the earlier weights"), (ours, pairs.values(), "the data")):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"config.data.renamed is {renamed!r}, but {where} have no class {unknown[0]!r}; they have {few(known)}"
            )
    return pairs
