"""Move arrays between our parameter trees and PyTorch state dicts, both ways, bit for bit.

A `Slot` says where one of our arrays lives in a state dict. Three things differ there: linear kernels are
(out, in) and convolution kernels (out, in, height, width); every block has arrays of its own, where ours
are stacked along a leading axis; and some layouts keep query, key and value apart, where ours are joined
on the output axis. Slots are made from tables of names: `vit_names.py`, `convnext.py`.

Our trees travel flat here: {"blocks/attn/qkv/kernel": array, ...}.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

BLOCK = "{block}"  # stands for the block number in the names of a table

Table = Mapping[str, str | tuple[str, ...]]
"""Our path -> the name in a state dict, or the names of the parts that are joined; BLOCK for the block number."""

_WEIGHT_AND_BIAS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one array of ours lives in a state dict.

    Attributes:
      path: our "/"-joined path.
      names: names[block][part]; parts are joined along our last axis (query, key, value).
      stacked: our array has a leading block axis. Without it there is exactly one block.
    """

    path: str
    names: tuple[tuple[str, ...], ...]
    stacked: bool

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every state-dict name this array is made of."""
        return tuple(name for parts in self.names for name in parts)


def dense_rows(ours: str, theirs: str) -> dict[str, str]:
    """Rows of a table for a linear layer or a convolution."""
    return _rows(ours, theirs, ("kernel", "bias"))


def norm_rows(ours: str, theirs: str) -> dict[str, str]:
    """Rows of a table for a LayerNorm."""
    return _rows(ours, theirs, ("scale", "bias"))


def _rows(ours: str, theirs: str, leaves: tuple[str, str]) -> dict[str, str]:
    return {f"{ours}/{leaf}": f"{theirs}.{_WEIGHT_AND_BIAS[leaf]}" for leaf in leaves}


def autoencoder_table(encoder: Table, decoder: Table) -> Table:
    """The table of a masked autoencoder from those of its halves."""
    halves = {"encoder": encoder, "decoder": decoder}
    return {f"{half}/{path}": theirs for half, table in halves.items() for path, theirs in table.items()}


def stack(parts: str | tuple[str, ...]) -> str:
    """What the names of all blocks of a stack begin with; "" for what belongs to no block."""
    before, block, _ = (parts if isinstance(parts, str) else parts[0]).partition(BLOCK)
    return before if block else ""


def slots(table: Table, *, depth: Callable[[str], int]) -> tuple[Slot, ...]:
    """Expands a naming table.

    Args:
      table: of one layout.
      depth: our path -> number of its blocks; asked for stacked arrays alone.

    Returns:
      One slot per row, in the order of the table.
    """
    return tuple(_slot(path, parts, depth=depth) for path, parts in table.items())


def _slot(path: str, parts: str | tuple[str, ...], *, depth: Callable[[str], int]) -> Slot:
    names = (parts,) if isinstance(parts, str) else parts
    if not stack(parts):
        return Slot(path=path, names=(names,), stacked=False)
    blocks = tuple(tuple(name.replace(BLOCK, str(block)) for name in names) for block in range(depth(path)))
    return Slot(path=path, names=blocks, stacked=True)


def our_shape(slot: Slot, shape_of: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
    """Shape `join` will give; `shape_of` maps a state-dict name to its shape.

    Raises:
      ValueError: blocks of one stack, or parts that are joined, differ in shape, naming both.
    """
    shapes = [_shape_of_parts(slot, parts, shape_of) for parts in slot.names]
    for block, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"{slot.names[block][0]} has shape {shape} in our layout, but {slot.names[0][0]} {shapes[0]}"
            )
    return (len(shapes), *shapes[0]) if slot.stacked else shapes[0]


def join(slot: Slot, read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Our array from the tensors of a state dict.

    One tensor is held at a time beside the result, so memory stays at one copy of the weights.

    Args:
      slot: where the array lives.
      read: state-dict name -> tensor.

    Returns:
      Array in our layout with the dtype of the tensors.
    """
    first = _join_parts(slot, slot.names[0], read)
    if not slot.stacked:
        return np.ascontiguousarray(first)
    stacked = np.empty((len(slot.names), *first.shape), first.dtype)
    stacked[0] = first
    for block, parts in enumerate(slot.names[1:], start=1):
        stacked[block] = _join_parts(slot, parts, read)
    return stacked


def split(slot: Slot, array: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors of a state dict from our array: the inverse of `join`. Returns views."""
    blocks = array if slot.stacked else array[None]
    if len(blocks) != len(slot.names):
        raise ValueError(f"{slot.path} has {len(blocks)} blocks, the layout {len(slot.names)}")
    tensors = {}
    for parts, block in zip(slot.names, blocks, strict=True):
        for name, piece in zip(parts, np.split(block, len(parts), axis=-1), strict=True):
            tensors[name] = _to_theirs(slot.path, piece)
    return tensors


def state_dict(flat: Mapping[str, np.ndarray], table: Table) -> dict[str, np.ndarray]:
    """Our arrays under the names of a table, as views in the PyTorch layout; rows without an array are skipped."""
    rows = {path: theirs for path, theirs in table.items() if path in flat}
    found = slots(rows, depth=lambda path: len(flat[path]))
    return {name: tensor for slot in found for name, tensor in split(slot, flat[slot.path]).items()}


def _join_parts(slot: Slot, parts: tuple[str, ...], read: Callable[[str], np.ndarray]) -> np.ndarray:
    pieces = [_to_ours(slot.path, read(name)) for name in parts]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)


def _shape_of_parts(slot: Slot, parts: tuple[str, ...], shape_of: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
    # Zero-stride stand-ins take the same path as the tensors themselves, without their memory.
    shapes = [_to_ours(slot.path, np.broadcast_to(0, shape_of(name))).shape for name in parts]
    for name, shape in zip(parts, shapes, strict=True):
        if not shape or shape[:-1] != shapes[0][:-1]:
            raise ValueError(f"{name} has shape {shape} in our layout, and {parts[0]} {shapes[0]}: no array of ours")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _to_ours(path: str, tensor: np.ndarray) -> np.ndarray:
    """(out, in) to (in, out), (out, in, h, w) to (h, w, in, out); everything but kernels is the same."""
    if not path.endswith("/kernel"):
        return tensor
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _to_theirs(path: str, array: np.ndarray) -> np.ndarray:
    if not path.endswith("/kernel"):
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"head": {"bias": b}} to {"head/bias": b}, in order."""
    flat = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat.update(flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"head/bias": b} to {"head": {"bias": b}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
