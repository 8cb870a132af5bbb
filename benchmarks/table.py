"""Rows of the accelerator benchmark as plain text tables."""

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def render(rows: Sequence[Row]) -> str:
    """The whole report; the share of the measured matmul is computed here, from the ceilings of the same run."""
    machine, ceilings = (next(r for r in rows if r["kind"] == kind) for kind in ("machine", "ceilings"))
    matmul = ceilings["matmul_flops_per_second"]
    head = (
        f"{machine['num_devices']} x {machine['device']}, jax {machine['jax']}, flax {machine['flax']}\n"
        f"matmul {ceilings['matmul_side']}, bfloat16, random data: {matmul / 1e12:.4g} TFLOP/s; "
        f"copy: {ceilings['copy_bytes_per_second'] / 1e9:.4g} GB/s"
    )
    sections = [head]
    for kind, columns in (("case", case_columns(matmul)), ("parts", PARTS), ("twin", TWINS)):
        found = [r for r in rows if r["kind"] == kind and "not_run" not in r]
        if found:
            sections.append(_table(columns, found))
    skipped = [f"not run: {r['name']} ({r['not_run']})" for r in rows if "not_run" in r]
    return "\n\n".join([*sections, *(["\n".join(skipped)] if skipped else [])])


def case_columns(matmul_flops_per_second: float) -> list[Column]:
    return [
        ("case", lambda r: r["name"]),
        ("batch", lambda r: str(r["case"]["batch"])),
        ("compile s", lambda r: f"{r['compile_seconds']:.1f}"),
        ("step ms", lambda r: f"{1e3 * r['step_seconds']:.1f}"),
        ("labeled/s", lambda r: f"{r['labeled_per_second']:.0f}"),
        ("unlabeled/s", lambda r: f"{r['unlabeled_per_second']:.0f}"),
        ("TFLOP/step", lambda r: f"{r['model_flops'] / 1e12:.4g}"),
        ("MFU %", lambda r: f"{100 * r['model_flops_per_second'] / matmul_flops_per_second:.1f}"),
        ("memory GB", lambda r: f"{r['program_bytes'] / 1e9:.3g}"),
    ]


def _milliseconds(name: str) -> Callable[[Row], str]:
    return lambda r: f"{1e3 * r[name]:.1f}"


PARTS: list[Column] = [
    ("parts, ms", lambda r: r["name"].removeprefix("parts of ")),
    ("teacher", _milliseconds("teacher_forward")),
    ("student forward", _milliseconds("student_forward")),
    ("backward", _milliseconds("backward")),
    ("mixing, erasing", _milliseconds("mixing_and_erasing")),
    ("optimizer, EMA", _milliseconds("optimizer_and_ema")),
]
TWINS: list[Column] = [
    ("twin", lambda r: r["name"]),
    ("ours ms", _milliseconds("our_seconds")),
    ("twin ms", _milliseconds("twin_seconds")),
    ("times faster", lambda r: f"{r['ratio']:.2f}"),
]


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    cells = [[title for title, _ in columns], *([text(row) for _, text in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in cells)
