"""Find the collectives of a compiled step in its optimised HLO: kind, count, bytes, origin, slices they join."""

import dataclasses
import re
from collections.abc import Iterable

from semivit_jax.preflight import groups, hlo
from semivit_jax.preflight.hlo import Instruction, Module

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: one of KINDS.
      bytes: of the whole array on one device: what is reduced, gathered (the result), scattered (the operand)
        or permuted.
      group_size: devices that take part together.
      times: executions per step; those of a loop body count as often as the loop runs.
      times_known: false when a loop around it has no trip count in the text and was counted once.
      op_name: where in the traced step it comes from; empty when the compiler made it.
      slices: slices that a group has devices of; 1 for what stays inside.
      leaving_bytes: bytes that leave a slice per step, the mean of all slices.
    """

    kind: str
    bytes: int
    group_size: int
    times: int
    times_known: bool
    op_name: str
    slices: int
    leaving_bytes: float

    @property
    def sent_bytes(self) -> float:
        """Bytes one device sends per step, by the ring algorithms (Patarasuk and Yuan 2009, section 3)."""
        return self.times * self.bytes * ring_share(self.kind, self.group_size)


def ring_share(kind: str, members: int) -> float:
    """What one member of a ring sends, as a share of the whole array."""
    share = (members - 1) / members
    return {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}.get(kind, share)


@dataclasses.dataclass(frozen=True)
class Total:
    """Collectives of one kind: executions per step, whole bytes, bytes a device sends, and bytes that leave a slice."""

    count: int
    bytes: int
    sent_bytes: float
    leaving_bytes: float


def find(text: str, *, slices: int) -> list[Collective]:
    """Every collective of `compiled.as_text()`; those over one device move nothing and are left out.

    The TPU compiler makes one program for all slices: its collectives join devices of one slice, and what slices
    exchange is sent and received through their hosts. Such a transfer counts as the collective that it is part of.

    Args:
      text: of the program.
      slices: equal slices that its partitions are numbered through, slice after slice; 1 for a TPU's.
    """
    module = hlo.parse(text)
    runs = hlo.executions(module)
    found = {
        _identity(instruction): _collective(instruction, kind, module, runs[name], name, slices)
        for name, instructions in module.computations.items()
        if runs[name].times
        for instruction in instructions
        if (kind := _kind(instruction))
    }
    return [c for c in found.values() if c.group_size > 1]


def totals(found: Iterable[Collective]) -> dict[str, Total]:
    """Sums per kind, in the order of KINDS; kinds that do not occur are left out."""
    found = list(found)
    by_kind = {kind: [c for c in found if c.kind == kind] for kind in KINDS}
    return {
        kind: Total(
            count=sum(c.times for c in members),
            bytes=sum(c.times * c.bytes for c in members),
            sent_bytes=sum(c.sent_bytes for c in members),
            leaving_bytes=sum(c.leaving_bytes for c in members),
        )
        for kind, members in by_kind.items()
        if members
    }


def _identity(instruction: Instruction) -> str:
    """What tells collectives apart: the name, or the channel of one that is spread over a chain of fusions.

    The TPU compiler overlaps a collective with computation by repeating it, whole, in every fusion of a chain.
    """
    channel = re.search(r"channel_id=(\d+)", instruction.rest)
    return f"channel {channel[1]}" if channel and "chain_id=" in instruction.rest else instruction.name


def _kind(instruction: Instruction) -> str:
    """Kind of an instruction, '' for all others; an asynchronous one counts where it starts."""
    between_slices = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.rest)
    if instruction.opcode == "send" and between_slices:
        return between_slices[1].lower().replace("_", "-")
    name = instruction.opcode.removesuffix("-start")
    return name if name in KINDS else ""


def _collective(
    instruction: Instruction, kind: str, module: Module, runs: hlo.Runs, inside: str, slices: int
) -> Collective:
    if instruction.opcode == "send":
        return _between_slices(instruction, kind, runs)
    permutes = "source_target_pairs=" in instruction.rest
    found = groups.pairs(instruction.rest) if permutes else groups.of(instruction.rest, module.num_partitions)
    group = len(found[0]) if found else 1
    size = _bytes(instruction, kind, group)
    if kind == "all-reduce" and inside.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # the TPU compiler's fusion of an all-reduce with the slice that follows it
    joined = [{member * slices // module.num_partitions for member in members} for members in found]
    leaving = (
        runs.times
        * size
        * sum(_leaving_share(kind, len(members), len(of)) for members, of in zip(found, joined, strict=True))
    )
    return Collective(
        kind,
        size,
        group,
        runs.times,
        runs.known,
        instruction.op_name,
        max(map(len, joined), default=1),
        leaving / slices,
    )


def _leaving_share(kind: str, members: int, slices: int) -> float:
    """What all slices of one group send to others, as a share of the whole array on one device.

    A ring that goes through slice after slice sends from each what a ring of slices sends. In an all-to-all every
    device has a part for each of the others.
    """
    if slices == 1:
        return 0.0
    if kind == "collective-permute":
        return 1.0  # a pair
    senders = members if kind == "all-to-all" else slices
    return senders * ring_share(kind, slices)


def _between_slices(instruction: Instruction, kind: str, runs: hlo.Runs) -> Collective:
    """A transfer that every device of a slice makes with its counterparts in the other slices.

    Its `_xla_megascale_target` counts both, as in "{1,2,3,4}x{0:15}": four slices, and the 16 devices of each.
    """
    target = re.search(r'_xla_megascale_target="\{([^}]*)\}x\{([^}]*)\}"', instruction.rest)
    if target is None:
        raise ValueError(f"the transfer between slices {instruction.name} does not say which slices it joins")
    slices, devices = map(_members, target.groups())
    size = hlo.array_bytes(hlo.elements(instruction.result)[0])
    leaving = runs.times * size * devices * ring_share(kind, slices)
    return Collective(kind, size, slices, runs.times, runs.known, instruction.op_name, slices, leaving)


def _members(text: str) -> int:
    """Numbers in '1,2,5:8', where 5:8 stands for four of them."""
    ranges = [part.split(":") for part in text.split(",")]
    return sum(int(one[-1]) - int(one[0]) + 1 for one in ranges)


def _bytes(instruction: Instruction, kind: str, group: int) -> int:
    result = instruction.result
    # Of the started kinds, these two carry (operand, result, ...) until they are done.
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        result = hlo.elements(result)[1]
    size = hlo.array_bytes(result)
    return size * group if kind == "reduce-scatter" else size
