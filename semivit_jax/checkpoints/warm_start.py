"""Carry parameters from one stage to the next, accounting for every tensor."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from semivit_jax.checkpoints import class_rows, reading
from semivit_jax.checkpoints.class_rows import Rows
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.files import Path
from semivit_jax.models.spec import ModelSpec
from semivit_jax.stages.spec import Handover
from semivit_jax.words import counted

PyTree = Any

# A head for another number of classes starts anew, its last axis alone may differ; so does one of another kind, or on
# another pooling, with all its layers.
REPLACED = (r"^head\.",)
HEADS = (*REPLACED, r"^head_hidden\.")
ADDED = (r"\.bottleneck_(down|up)$",)  # to a model that had none, which they leave as it was


class Crossing(NamedTuple):
    """From which model to which, what the new stage declares about the way, and which outputs of the heads match."""

    handover: Handover
    theirs: ModelSpec
    ours: ModelSpec
    rows: Rows | None = None

    def name(self, theirs: str) -> str:
        """What an array of theirs is called here: an encoder that leaves its autoencoder loses its prefix."""
        leaves = self.theirs.decoder is not None and self.ours.decoder is None
        return theirs.removeprefix("encoder.") if leaves else theirs


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which tensors were loaded, which start afresh, which were left behind; dotted names.

    Attributes:
      source: where they come from.
      loaded: that are theirs.
      reinitialised: that are fresh.
      dropped: of theirs, that have no place here.
      by_class: of a head, that are theirs for the classes of the same names, and fresh for the others.
      classes: which classes these are, for people.
    """

    source: str
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    dropped: tuple[str, ...]
    by_class: tuple[str, ...] = ()
    classes: str = ""

    def and_also(self, other: "Transfer") -> "Transfer":
        """Of two trees of one model."""
        return dataclasses.replace(
            self,
            loaded=self.loaded + other.loaded,
            reinitialised=self.reinitialised + other.reinitialised,
            dropped=self.dropped + other.dropped,
        )

    def lines(self) -> list[str]:
        """A few lines for people."""
        by_class = f"  by class name ({len(self.by_class)}): {_short(self.by_class)}: {self.classes}"
        return [
            f"warm start from {self.source}",
            f"  loaded ({len(self.loaded)}): {_short(self.loaded)}",
            *([by_class] if self.by_class else []),
            f"  re-initialised ({len(self.reinitialised)}): {_short(self.reinitialised)}",
            f"  dropped ({len(self.dropped)}): {_short(self.dropped)}",
        ]


def plan_transfer(source: str, available: Mapping[str, Any], wanted: Mapping[str, Any], crossing: Crossing) -> Transfer:
    """Decides what is carried over, before anything is read.

    A head on another pooling or of another kind counts as dropped and re-initialised, and so does one with another
    number of classes, unless some have the same names.

    Args:
      source: where the tensors come from, for messages.
      available: {name here: anything with a shape} of the source.
      wanted: the same of the new model.
      crossing: whose declarations apply.

    Raises:
      CheckpointError: a tensor is missing, left over or of another shape without being declared.
    """
    handover, theirs, ours = crossing.handover, crossing.theirs, crossing.ours
    other_head = (theirs.pool, theirs.head) != (ours.pool, ours.head)
    anew = HEADS if other_head else ()
    heads = [n for n in wanted if n in available and _declared(n, REPLACED)]
    matched = crossing.rows is not None and not other_head
    by_class = tuple(n for n in heads if matched and _same_width(available[n], wanted[n]))
    replaced = {n for n in heads if _other_classes(available[n], wanted[n])}.union(by_class)
    replaced |= {n for n in wanted if _declared(n, anew)}
    loaded = tuple(n for n in wanted if n in available and n not in replaced)
    lacking = [n for n in wanted if n not in available]
    homeless = [n for n in available if n not in wanted]
    complaints = [f"{n} is not in {source}" for n in lacking if not _declared(n, (*handover.fresh, *anew, *ADDED))]
    undeclared = [n for n in homeless if not _declared(n, (*handover.left, *anew))]
    complaints += [f"{n} of {source} has no place in the model" for n in undeclared]
    complaints += [
        f"{n} has shape {tuple(available[n].shape)} in {source}, the model needs {tuple(wanted[n].shape)}"
        + (" (`semivit import` with --image_size resizes it)" if n == "posemb" else "")
        for n in loaded
        if tuple(available[n].shape) != tuple(wanted[n].shape)
    ]
    if complaints:
        raise CheckpointError("cannot start from earlier weights: " + "; ".join(complaints))
    reinitialised = tuple(n for n in wanted if n not in loaded and n not in by_class)
    dropped = tuple(n for n in available if n not in loaded and n not in by_class)
    return Transfer(source, loaded, reinitialised, dropped, by_class, str(crossing.rows) if by_class else "")


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
    whole = {n: NamedSharding(places[n].mesh, PartitionSpec()) for n in transfer.by_class}
    targets |= {
        original[n]: jax.ShapeDtypeStruct(available[n].shape, wanted[n].dtype, sharding=whole[n]) for n in whole
    }
    arrays = reading.restore_known(directory, targets)
    theirs = {n: arrays[original[n]] for n in (*transfer.loaded, *transfer.by_class)}
    return _taken(params, theirs, crossing, transfer), transfer


def from_arrays(arrays: PyTree, params: PyTree, shardings: PyTree, *, crossing: Crossing, source: str):
    """Puts imported arrays (nested dict of numpy) into freshly initialised params; returns (params, Transfer)."""
    wanted, places = reading.flat(params), reading.flat(shardings)
    available = {crossing.name(n): a for n, a in reading.flat(arrays).items()}
    transfer = plan_transfer(source, available, wanted, crossing)
    theirs = {n: jax.device_put(available[n].astype(wanted[n].dtype), places[n]) for n in transfer.loaded}
    theirs |= {n: available[n] for n in transfer.by_class}
    return _taken(params, theirs, crossing, transfer), transfer


def _taken(params: PyTree, theirs: Mapping[str, Any], crossing: Crossing, transfer: Transfer) -> PyTree:
    """The fresh params with what is theirs in its place."""
    leaves = []
    for name, leaf in reading.flat(params).items():
        if name in transfer.by_class and crossing.rows is not None:
            leaf = class_rows.fill(leaf, theirs[name], crossing.rows)
        leaves.append(theirs[name] if name in transfer.loaded else leaf)
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _same_width(theirs: Any, ours: Any) -> bool:
    """Whether two tensors of heads read as many features."""
    return tuple(theirs.shape)[:-1] == tuple(ours.shape)[:-1]


def _other_classes(theirs: Any, ours: Any) -> bool:
    """Whether a tensor of a head has the right width, and another number of classes."""
    return _same_width(theirs, ours) and tuple(theirs.shape) != tuple(ours.shape)


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
