"""Carry parameters from one stage to the next, accounting for every tensor."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from semivit_jax.checkpoints import reading
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.files import Path
from semivit_jax.models.spec import ModelSpec
from semivit_jax.stages.spec import Handover
from semivit_jax.words import counted

PyTree = Any

# A head for another number of classes starts anew, its last axis alone may differ; so does one on the other pooling.
REPLACED = (r"^head\.",)
_MOST_OUTPUTS = 3  # differing outputs of a head that are spelled out


class Crossing(NamedTuple):
    """From which model to which, and what the new stage declares about the way."""

    handover: Handover
    theirs: ModelSpec
    ours: ModelSpec

    def name(self, theirs: str) -> str:
        """What an array of theirs is called here: an encoder that leaves its autoencoder loses its prefix."""
        leaves = self.theirs.decoder is not None and self.ours.decoder is None
        return theirs.removeprefix("encoder.") if leaves else theirs


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which tensors were loaded, which start afresh, which were left behind; dotted names."""

    source: str
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    dropped: tuple[str, ...]

    def lines(self) -> list[str]:
        """Three lines for people."""
        return [
            f"warm start from {self.source}",
            f"  loaded ({len(self.loaded)}): {_short(self.loaded)}",
            f"  re-initialised ({len(self.reinitialised)}): {_short(self.reinitialised)}",
            f"  dropped ({len(self.dropped)}): {_short(self.dropped)}",
        ]


def plan_transfer(source: str, available: Mapping[str, Any], wanted: Mapping[str, Any], crossing: Crossing) -> Transfer:
    """Decides what is carried over, before anything is read.

    A head with another number of classes, or on the other pooling, counts as dropped and re-initialised.

    Args:
      source: where the tensors come from, for messages.
      available: {name here: anything with a shape} of the source.
      wanted: the same of the new model.
      crossing: whose declarations apply.

    Raises:
      CheckpointError: a tensor is missing, left over or of another shape without being declared.
    """
    handover, other_pooling = crossing.handover, crossing.theirs.pool != crossing.ours.pool
    replaced = {
        n
        for n in wanted
        if n in available and _declared(n, REPLACED) and (other_pooling or _other_classes(available[n], wanted[n]))
    }
    loaded = tuple(n for n in wanted if n in available and n not in replaced)
    lacking = [n for n in wanted if n not in available]
    homeless = [n for n in available if n not in wanted]
    complaints = [f"{n} is not in {source}" for n in lacking if not _declared(n, handover.fresh)]
    undeclared = [n for n in homeless if not _declared(n, handover.left)]
    complaints += [f"{n} of {source} has no place in the model" for n in undeclared]
    complaints += [
        f"{n} has shape {tuple(available[n].shape)} in {source}, the model needs {tuple(wanted[n].shape)}"
        + (" (`semivit import` with --image_size resizes it)" if n == "posemb" else "")
        for n in loaded
        if tuple(available[n].shape) != tuple(wanted[n].shape)
    ]
    if complaints:
        raise CheckpointError("cannot start from earlier weights: " + "; ".join(complaints))
    reinitialised = tuple(n for n in wanted if n not in loaded)
    dropped = tuple(n for n in available if n not in loaded)
    return Transfer(source, loaded, reinitialised, dropped)


def from_checkpoint(directory: Path, params: PyTree, shardings: PyTree, *, crossing: Crossing, tree: str):
    """Loads one tree ('params' or 'ema_params') of a checkpoint into freshly initialised params.

    Args:
      directory: a good checkpoint.
      params: what the new stage would start from; re-initialised tensors are kept from here.
      shardings: one per leaf of params.
      crossing: from the model of the checkpoint to that of the new stage.
      tree: which of its trees.

    Returns:
      (params, Transfer).
    """
    shapes = reading.array_shapes(directory)
    stored = {n: s for n, s in shapes.items() if n.startswith(f"{tree}.")}
    names = {n: crossing.name(n.removeprefix(f"{tree}.")) for n in stored}
    available = {names[n]: jax.ShapeDtypeStruct(s, "float32") for n, s in stored.items()}
    wanted, places = reading.flat(params), reading.flat(shardings)
    transfer = plan_transfer(f"{directory} ({tree})", available, wanted, crossing)
    original = {new: old for old, new in names.items()}
    targets = {
        original[n]: jax.ShapeDtypeStruct(wanted[n].shape, wanted[n].dtype, sharding=places[n]) for n in transfer.loaded
    }
    arrays = reading.restore_arrays(directory, targets)
    leaves = [arrays[original[n]] if n in transfer.loaded else leaf for n, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves), transfer


def from_arrays(arrays: PyTree, params: PyTree, shardings: PyTree, *, crossing: Crossing, source: str):
    """Puts imported arrays (nested dict of numpy) into freshly initialised params; returns (params, Transfer)."""
    wanted, places = reading.flat(params), reading.flat(shardings)
    available = {crossing.name(n): a for n, a in reading.flat(arrays).items()}
    transfer = plan_transfer(source, available, wanted, crossing)
    loaded = set(transfer.loaded)
    leaves = [
        jax.device_put(available[n].astype(leaf.dtype), places[n]) if n in loaded else leaf
        for n, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves), transfer


def _other_classes(theirs: Any, ours: Any) -> bool:
    """Whether a tensor of a head has the right width, and another number of classes."""
    theirs, ours = tuple(theirs.shape), tuple(ours.shape)
    return theirs != ours and theirs[:-1] == ours[:-1]


def _declared(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(p, name) for p in patterns)


def _short(names: tuple[str, ...]) -> str:
    """Names with the blocks' tensors counted instead of listed."""
    kinds = {f"{of}.blocks.": f"the {of}'s blocks" for of in ("encoder", "decoder")} | {"blocks.": "the blocks"}
    told = [n for n in names if not n.startswith(tuple(kinds))]
    for prefix, whose in kinds.items():
        if number := sum(n.startswith(prefix) for n in names):
            told.append(f"{counted(number, 'tensor')} of {whose}")
    return ", ".join(told) or "none"


def class_mismatch(theirs: Sequence[str] | None, ours: Sequence[str]) -> str:
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
