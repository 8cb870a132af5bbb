"""Find the collectives of a compiled step in its optimised HLO: kind, count, bytes, origin."""

import dataclasses
import math
import re
from collections.abc import Iterable

from semivit_jax.preflight import hlo
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
    """

    kind: str
    bytes: int
    group_size: int
    times: int
    times_known: bool
    op_name: str

    @property
    def sent_bytes(self) -> float:
        """Bytes one device sends per step, by the ring algorithms (Patarasuk and Yuan 2009, section 3)."""
        share = (self.group_size - 1) / self.group_size
        per_run = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.times * self.bytes * per_run.get(self.kind, share)


@dataclasses.dataclass(frozen=True)
class Total:
    """All collectives of one kind: executions per step, whole bytes, and bytes a device sends."""

    count: int
    bytes: int
    sent_bytes: float


def find(text: str) -> list[Collective]:
    """Every collective of `compiled.as_text()`; those over one device move nothing and are left out."""
    module = hlo.parse(text)
    runs = hlo.executions(module)
    found = {
        _identity(instruction): _collective(instruction, kind, module, runs[name], name)
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
    name = instruction.opcode.removesuffix("-start")
    return name if name in KINDS else ""


def _collective(instruction: Instruction, kind: str, module: Module, runs: hlo.Runs, inside: str) -> Collective:
    group = _group_size(instruction.rest, module.num_partitions)
    size = _bytes(instruction, kind, group)
    if kind == "all-reduce" and inside.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # the TPU compiler's fusion of an all-reduce with the slice that follows it
    return Collective(kind, size, group, runs.times, runs.known, instruction.op_name)


def _bytes(instruction: Instruction, kind: str, group: int) -> int:
    result = instruction.result
    # Of the started kinds, these two carry (operand, result, ...) until they are done.
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        result = hlo.elements(result)[1]
    size = hlo.array_bytes(result)
    return size * group if kind == "reduce-scatter" else size


def _group_size(rest: str, num_partitions: int) -> int:
    """Devices per group, from any of the spellings of replica groups; empty groups mean all devices."""
    if "source_target_pairs={" in rest:
        return 2  # each device has one partner; only being above 1 matters
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest)
    if named:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        taken = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])  # 'axis', or 'axis':(before)part of it
        return math.prod(int(part or sizes[axis]) for axis, part in taken)
    iota = re.search(r"replica_groups=\[(?:\d+,)*(\d+)\]<=", rest)
    if iota:
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else num_partitions
