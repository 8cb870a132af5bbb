"""Read which devices a collective joins, from any spelling of replica groups in HLO."""

import math
import re

import numpy as np

Groups = tuple[tuple[int, ...], ...]  # devices of each group, by their place in the mesh

_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")  # 'axis', or 'axis':(before)part, the part of it after `before`


def of(rest: str, num_partitions: int) -> Groups:
    """Groups in the text of an instruction; none, or empty ones, mean one group of all devices.

    Args:
      rest: everything after the operation's name.
      num_partitions: devices of the program.
    """
    named = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^{]*)\))?[^{]*\{([^}]*)\}", rest)
    if named:
        return _of_axes(*named.groups())
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", rest)
    if iota:
        return _rows(_iota(iota[2]).reshape(_numbers(iota[1])))
    listed = re.search(r"replica_groups=\{(\{[\d,{}]+\})\}", rest)
    return _listed(listed[1]) if listed else (tuple(range(num_partitions)),)


def pairs(rest: str) -> Groups:
    """(source, target) of each message of a permutation."""
    listed = re.search(r"source_target_pairs=\{(\{[\d,{}]+\})\}", rest)
    return _listed(listed[1]) if listed else ()


def _of_axes(axes: str, devices: str | None, joined: str) -> Groups:
    """Groups along the axes `joined` of a mesh "'x'=4,'y'=2", whose devices may be in another order than they count."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    parts: list[int] = []
    along: list[int] = []
    asked = {name: (int(before or 1), int(part or sizes[name])) for name, before, part in _AXIS.findall(joined)}
    for name, size in sizes.items():
        before, part = asked.get(name, (1, 1))
        if name in asked:
            along.append(len(parts) + 1)
        parts += [before, part, size // (before * part)]
    order = _iota(devices) if devices else np.arange(math.prod(sizes.values()))
    apart = [axis for axis in range(len(parts)) if axis not in along]
    return _rows(order.reshape(parts).transpose(apart + along).reshape(-1, math.prod(parts[axis] for axis in along)))


def _iota(text: str) -> np.ndarray:
    """'[4,2]T(1,0)': the numbers from 0 in that shape, transposed, flat."""
    shape, _, order = text.partition("T")
    array = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return (array.transpose(_numbers(order)) if order else array).reshape(-1)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _listed(text: str) -> Groups:
    return tuple(tuple(_numbers(group)) for group in re.findall(r"\{([\d,]+)\}", text))


def _rows(array: np.ndarray) -> Groups:
    """Rows of the last axis, as a replica group has them."""
    return tuple(map(tuple, array.reshape(-1, array.shape[-1]).tolist()))
