"""Fill a parameter tree from a state dict, and account for every tensor of both."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from semivit_jax.weights import layout
from semivit_jax.weights.account import Row, Status
from semivit_jax.weights.layout import Table
from semivit_jax.weights.prefixes import COUNTERS
from semivit_jax.weights.tensors import Tensors
from semivit_jax.words import counted

_NO_WEIGHTS = (COUNTERS, "counter of the training, no weight")


@dataclasses.dataclass(frozen=True)
class Resizer:
    """How a parameter is fitted to another size.

    Attributes:
      axes: axes that may differ.
      apply: (array, shape wanted) -> array.
      note: by which rule, for the report.
    """

    axes: tuple[int, ...]
    apply: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    note: str

    def fits(self, shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
        """Whether the shapes differ in the axes alone that may."""
        others = [axis for axis in range(len(wanted)) if axis not in self.axes]
        return len(shape) == len(wanted) and all(shape[axis] == wanted[axis] for axis in others)


@dataclasses.dataclass(frozen=True)
class Target:
    """The tree to be filled.

    Attributes:
      shapes: path -> shape, every parameter of the model.
      table: path -> source names; may name more than the model has.
      resizers: path -> (array, shape wanted) -> array, for the parameters that may be resized.
      fresh: path -> value at the start of training, for parameters that the source may lack.
      drawn: paths that are not in `shapes`, because the run starting from here draws them itself.
      expendable: (pattern, reason) of the source tensors, and of our paths, that may be left over.
    """

    shapes: Mapping[str, tuple[int, ...]]
    table: Table
    resizers: Mapping[str, Resizer]
    fresh: Mapping[str, float]
    drawn: Sequence[str]
    expendable: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Filled:
    """Flat parameters by path, and one row per parameter and left-over tensor."""

    params: dict[str, np.ndarray]
    rows: tuple[Row, ...]


def fill(tensors: Tensors, target: Target) -> Filled:
    """Reads every parameter of `target` from the source.

    Raises:
      ValueError: shapes that do not fit (both are named), parameters the source lacks, tensors the model has no
        place for, or one with numbers that are not finite.
    """
    found, lacking = _find(tensors, target)
    shapes = {path: layout.our_shape(slot, tensors.shapes.__getitem__) for path, slot in found.items()}
    _check_fit(shapes, lacking, target)
    params, rows = {}, []
    for path, shape in target.shapes.items():
        if path in found:
            array = layout.join(found[path], lambda name: _read_sound(tensors, name))
            fits = array.shape == shape
            resizer = None if fits else target.resizers[path]
            params[path] = array if resizer is None else resizer.apply(array, shape)
            status, note = (Status.LOADED, "") if resizer is None else (Status.RESIZED, resizer.note)
            rows.append(Row(status, path, found[path].all_names, shapes[path], shape, note))
        else:
            params[path] = np.full(shape, target.fresh[path], np.float32)
            note = f"the source has none: starts at {target.fresh[path]:g}"
            rows.append(Row(Status.REINITIALISED, path, (), None, shape, note))
    for path in target.drawn:
        rows.append(Row(Status.REINITIALISED, path, (), None, None, "drawn by the run that starts from here"))
    return Filled(params=params, rows=(*rows, *_left_over(tensors, found, target)))


def shapes_in(tensors: Tensors, table: Table) -> dict[str, tuple[int, ...]]:
    """Shapes in our layout, by path, of what a state dict holds in full.

    Raises:
      ValueError: blocks of one stack differ in shape, or parts that are joined.
    """
    every = layout.slots(table, depth=_depths(tensors, table).__getitem__)
    whole = [slot for slot in every if slot.all_names and all(name in tensors.shapes for name in slot.all_names)]
    return {slot.path: layout.our_shape(slot, tensors.shapes.__getitem__) for slot in whole}


def _read_sound(tensors: Tensors, name: str) -> np.ndarray:
    array = tensors.read(name)
    if not np.isfinite(array).all():
        number = array[~np.isfinite(array)].flat[0]
        raise ValueError(f"{name}: holds {number}, so the source is damaged, or its training had diverged")
    return array


def _find(tensors: Tensors, target: Target) -> tuple[dict[str, layout.Slot], list[str]]:
    """Slots the source has in full, and the names lacking from those it has in part or must have."""
    depths, found, lacking = _depths(tensors, target.table), {}, []
    for slot in layout.slots(target.table, depth=depths.__getitem__):
        absent = [name for name in slot.all_names if name not in tensors.shapes]
        if slot.all_names and not absent:
            found[slot.path] = slot
        elif len(absent) < len(slot.all_names) or _is_required(slot.path, target):
            lacking += absent or [str(target.table[slot.path])]
    return found, lacking


def _is_required(path: str, target: Target) -> bool:
    return path in target.shapes and path not in target.fresh


def _depths(tensors: Tensors, table: Table) -> dict[str, int]:
    """Our path -> blocks that the source has in its stack."""
    stacks: dict[str, int] = {}
    for parts in table.values():
        if stack := layout.stack(parts):
            name = parts if isinstance(parts, str) else parts[0]
            pattern = re.compile(re.escape(name).replace(re.escape(layout.BLOCK), r"(\d+)"))
            numbers = [int(match[1]) for match in map(pattern.fullmatch, tensors.shapes) if match]
            stacks[stack] = max([stacks.get(stack, 0), *(number + 1 for number in numbers)])
    return {path: stacks[stack] for path, parts in table.items() if (stack := layout.stack(parts))}


def _check_fit(shapes: Mapping[str, tuple[int, ...]], lacking: list[str], target: Target) -> None:
    if lacking:
        raise ValueError(
            f"the source lacks {counted(len(lacking), 'tensor')} the model needs: {', '.join(lacking[:5])}"
        )
    misfits = [
        f"{path}: the source has {shapes[path]}, the model {shape}"
        for path, shape in target.shapes.items()
        if path in shapes and not _fits(path, shapes[path], shape, target)
    ]
    if misfits:
        raise ValueError(
            f"{counted(len(misfits), 'tensor')} of another shape (in our layout, blocks first): "
            + "; ".join(misfits[:5])
        )


def _fits(path: str, shape: tuple[int, ...], wanted: tuple[int, ...], target: Target) -> bool:
    resizer = target.resizers.get(path)
    return shape == wanted or (resizer is not None and resizer.fits(shape, wanted))


def _left_over(tensors: Tensors, found: Mapping[str, layout.Slot], target: Target) -> list[Row]:
    used = {name for path, slot in found.items() if path in target.shapes for name in slot.all_names}
    rows, homeless = [], []
    for name, shape in tensors.shapes.items():
        if name in used:
            continue
        known = (*target.expendable, _NO_WEIGHTS)
        reason = next((reason for pattern, reason in known if re.match(pattern, name)), None)
        if reason is None:
            homeless.append(f"{name} {shape}")
        else:
            rows.append(Row(Status.LEFT_OVER, "", (name,), shape, None, reason))
    if homeless:
        raise ValueError(
            f"the model has no place for {counted(len(homeless), 'tensor')} of the source: {', '.join(homeless[:5])}"
        )
    return rows
