"""Parse optimised HLO text: computations, instructions, runs per step."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_BYTES = {"pred": 1, "token": 0, "opaque": 0, "bf16": 2, "c64": 8, "c128": 16}
_ARRAY = re.compile(r"\b(pred|token|opaque|bf16|c64|c128|[suf]\d+\w*)\[([\d,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"^(?:ROOT )?%?([\w.\-]+) = ")
_CALLS = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count[":{ ]+n[": ]+(\d+)')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `result` is the text of its type, `rest` everything after the operation's name."""

    name: str
    opcode: str
    result: str
    rest: str

    @property
    def op_name(self) -> str:
        """Where in the traced program it comes from; empty when the compiler made it."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed module: its computations by name, in order, and the name of the one that runs first."""

    computations: dict[str, list[Instruction]]
    entry: str
    num_partitions: int


@dataclasses.dataclass(frozen=True)
class Runs:
    """How often a computation runs per step; `known` is false below a loop whose trip count is not in the text."""

    times: int
    known: bool


def parse(text: str) -> Module:
    """Parses the text of `compiled.as_text()`.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        stripped = line.strip()
        head = _HEAD.match(stripped) if " = " not in stripped.split("(", 1)[0] else None
        if head:
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif stripped == "}":
            current = None
        elif current is not None and (instruction := _instruction(stripped)):
            current.append(instruction)
    if not entry:
        raise ValueError("not the text of a compiled HLO module: there is no ENTRY computation")
    partitions = re.search(r"num_partitions=(\d+)", text)
    return Module(computations, entry, int(partitions[1]) if partitions else 1)


def _instruction(line: str) -> Instruction | None:
    named = _NAME.match(line)
    if not named:
        return None
    tail = line[named.end() :]
    end = _type_end(tail)
    opcode, _, rest = tail[end:].lstrip().partition("(")
    return Instruction(named[1], opcode, tail[:end], rest)


def _type_end(text: str) -> int:
    """Where the result's type ends: after the closing bracket of a tuple, or at the first space."""
    if not text.startswith("("):
        return text.find(" ")
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position + 1
    return len(text)


def array_bytes(text: str) -> int:
    """Bytes of all arrays named in a type, 'f32[8,16]{1,0}' or a tuple of such."""
    return sum(
        _item_bytes(kind) * math.prod(int(d) for d in dims.split(",") if d) for kind, dims in _ARRAY.findall(text)
    )


def _item_bytes(kind: str) -> int:
    if kind in _BYTES:
        return _BYTES[kind]
    bits = re.match(r"[suf](\d+)", kind)
    return max(1, int(bits[1]) // 8) if bits else 0


def elements(result: str) -> list[str]:
    """Top-level members of a tuple type; an array type alone is its only member."""
    if not result.startswith("("):
        return [result]
    members, depth, start = [], 0, 1
    for position, character in enumerate(result):
        depth += (character in "({[") - (character in ")}]")
        if (character == "," and depth == 1) or (character == ")" and depth == 0):
            members.append(result[start:position].strip())
            start = position + 1
    return members


def executions(module: Module) -> dict[str, Runs]:
    """How often each computation runs per step: loops multiply, calls add."""
    callers: dict[str, list[tuple[str, int | None]]] = collections.defaultdict(list)
    for caller, instructions in module.computations.items():
        for instruction in instructions:
            for callee, trips in _called(instruction, module):
                callers[callee].append((caller, trips))
    found: dict[str, Runs] = {module.entry: Runs(1, True)}

    def runs(name: str) -> Runs:
        if name not in found:
            above = [(runs(caller), trips) for caller, trips in callers[name]]
            times = sum(r.times * (1 if trips is None else trips) for r, trips in above)
            found[name] = Runs(times, all(r.known and trips is not None for r, trips in above))
        return found[name]

    return {name: runs(name) for name in module.computations}


def _called(instruction: Instruction, module: Module) -> Iterator[tuple[str, int | None]]:
    """(computation, times per execution); None where a loop's trip count is not known."""
    if instruction.opcode.endswith(("-done", "-update")):
        return  # what they finish was counted where it started
    callees = dict(_CALLS.findall(instruction.rest))
    trips = _trip_count(instruction, module.computations.get(callees.get("condition", ""), []))
    for attribute, name in callees.items():
        yield name, trips if attribute in ("body", "condition") else 1
    for names in _BRANCHES.findall(instruction.rest):
        for name in re.findall(r"[\w.\-]+", names):
            yield name, 1


def _trip_count(loop: Instruction, condition: list[Instruction]) -> int | None:
    """From the compiler's note, or from a condition 'index < constant', which is what `jax.lax.scan` makes.

    The TPU compiler drops the note. A scan's index starts at 0 and grows by 1, so the constant is the count; other
    loops compare values that are not integer scalars, and stay unknown.
    """
    noted = _TRIPS.search(loop.rest)
    if noted:
        return int(noted[1])
    constants = {
        i.name: int(found[1])
        for i in condition
        if i.opcode == "constant" and (found := re.match(r"(\d+)\)", i.rest)) and re.match(r"[su]32\[\]", i.result)
    }
    compared = [i for i in condition if i.opcode == "compare" and "direction=LT" in i.rest]
    if len(compared) != 1 or compared[0] is not condition[-1]:
        return None
    limit = re.findall(r"%([\w.\-]+)", compared[0].rest.split(")", 1)[0])[-1]
    return constants.get(limit)
