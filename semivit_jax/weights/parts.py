"""Join the parts over which a state dict is split, by their index."""

from collections.abc import Mapping, Sequence

from semivit_jax.weights.tensors import Tensors
from semivit_jax.words import counted


def joined(parts: Mapping[str, Tensors], listed: Mapping[str, str]) -> tuple[Tensors, tuple[str, ...]]:
    """One state dict, every tensor from the part that the index names.

    The format says no more than that: `weight_map` has one file for each tensor. transformers reads the parts that the
    index names and of two tensors of one name takes whichever it opens last, which nobody has chosen. So what is
    nowhere listed is read as there, as long as one part alone holds it.

    Args:
      parts: name of a file -> what it holds.
      listed: tensor -> name of the file that it must be in, as an index says; empty without an index.

    Returns:
      The tensors, and notes on where the parts hold more than the index says.

    Raises:
      ValueError: a part lacks a tensor that is listed in it, or two hold one that is not listed.
    """
    holders: dict[str, list[str]] = {}
    for part, tensors in parts.items():
        for name in tensors.shapes:
            holders.setdefault(name, []).append(part)
    _refuse_lacking(holders, listed)
    twice = [name for name, found in holders.items() if len(found) > 1]
    for name in twice:
        if name not in listed:
            raise ValueError(
                f"{' and '.join(holders[name])} hold {name} both, and no index says which to take: "
                "take it out of all but one"
            )
    part_of = {name: listed.get(name, found[0]) for name, found in holders.items()}
    shapes = {name: parts[part].shapes[name] for name, part in part_of.items()}
    return Tensors(shapes, lambda name: parts[part_of[name]].read(name)), _notes(holders, listed, twice)


def _refuse_lacking(holders: Mapping[str, Sequence[str]], listed: Mapping[str, str]) -> None:
    lacking = [name for name, part in listed.items() if part not in holders.get(name, ())]
    if not lacking:
        return
    first, more = lacking[0], f", and {len(lacking) - 1} more," if len(lacking) > 1 else ""
    said = f"{listed[first]} lacks {first}{more} which the index says it holds"
    if first in holders:
        said += f"; {holders[first][0]} holds it, so parts and index are of different checkpoints"
    raise ValueError(said)


def _notes(holders: Mapping[str, Sequence[str]], listed: Mapping[str, str], twice: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if twice:
        name = twice[0]
        others = " and ".join(part for part in holders[name] if part != listed[name])
        notes.append(
            f"{counted(len(twice), 'tensor')} in more than one part, taken from the one that the index names: "
            f"{name} from {listed[name]}, not from {others}{_and_more(twice)}"
        )
    unlisted = [name for name in holders if name not in listed] if listed else []
    if unlisted:
        name = unlisted[0]
        told = f"{counted(len(unlisted), 'tensor')} that the index does not list, taken where found: "
        notes.append(f"{told}{name} in {holders[name][0]}{_and_more(unlisted)}")
    return tuple(notes)


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""
