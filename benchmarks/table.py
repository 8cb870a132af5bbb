"""Rows of the accelerator benchmark as plain text tables."""

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def render(rows: Sequence[Row]) -> str:
    """The whole report; a case's share of the measured matmul is of the same run's, by the rows' `run`."""
    measured = [row for row in rows if "not_run" not in row]
    matmul = {row["run"]: row["matmul_flops_per_second"] for row in measured if row["kind"] == "machine"}
    sections = ["\n".join(_head(row) for row in measured if row["kind"] == "machine")]
    sections += [_attention(row) for row in measured if row["kind"] == "attention"]
    for kind, columns in (("case", case_columns(matmul)), ("kernels", KERNELS), ("parts", PARTS), ("twin", TWINS)):
        if found := [row for row in measured if row["kind"] == kind]:
            sections.append(_table(columns, found))
    sections.append("\n".join(f"not run: {row['name']} ({row['not_run']})" for row in rows if "not_run" in row))
    return "\n\n".join(section for section in sections if section)


def _head(machine: Row) -> str:
    return (
        f"{machine['num_devices']} x {machine['device']}, jax {machine['jax']}, flax {machine['flax']}\n"
        f"matmul {machine['matmul_side']}, bfloat16, random data: "
        f"{machine['matmul_flops_per_second'] / 1e12:.4g} TFLOP/s; "
        f"copy: {machine['copy_bytes_per_second'] / 1e9:.4g} GB/s"
    )


def _attention(row: Row) -> str:
    lines = ["attention, forward and backward; error against float32"]
    for entry in row["shapes"]:
        found = {name: value for name, value in entry.items() if name != "shape"}
        texts = [f"{name} {1e3 * v['seconds']:.3f} ms, error {v['error']:.4f}" for name, v in found.items()]
        lines.append(f"  {entry['shape']}: {'; '.join(texts)}")
    return "\n".join(lines if row["trusted"] else [*lines, "  not trusted: the cases below use the plain path"])


def case_columns(matmul_of_run: dict[int, float]) -> list[Column]:
    return [
        ("case", lambda r: r["name"]),
        ("batch", lambda r: str(r["case"]["batch"])),
        ("compile s", lambda r: f"{r['compile_seconds']:.1f}"),
        ("step ms", lambda r: f"{1e3 * r['step_seconds']:.1f}"),
        ("wait %", lambda r: f"{100 * r['input_wait_share']:.1f}"),
        ("labeled/s", lambda r: f"{r['labeled_per_second']:.0f}"),
        ("unlabeled/s", lambda r: f"{r['unlabeled_per_second']:.0f}"),
        ("TFLOP/step", lambda r: f"{r['model_flops'] / 1e12:.4g}"),
        ("MFU %", lambda r: f"{100 * r['model_flops_per_second'] / matmul_of_run[r['run']]:.1f}"),
        ("memory GB", lambda r: f"{r['program_bytes'] / 1e9:.3g}"),
        ("peak GB", lambda r: "" if r["peak_bytes_in_use"] is None else f"{r['peak_bytes_in_use'] / 1e9:.3g}"),
    ]


def _milliseconds(name: str) -> Callable[[Row], str]:
    return lambda r: f"{1e3 * r[name]:.1f}"


KERNELS: list[Column] = [
    ("kernels, ms", lambda r: r["name"].removeprefix("kernels of ")),
    ("matmul", _milliseconds("matmul")),
    ("attention", _milliseconds("attention")),
    ("other", _milliseconds("other")),
    ("other %", lambda r: f"{100 * r['other_share']:.1f}"),
]
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
    ("batch", lambda r: str(r["case"]["batch"])),
    ("ours ms", _milliseconds("our_seconds")),
    ("twin ms", _milliseconds("twin_seconds")),
    ("times faster", lambda r: f"{r['ratio']:.2f}"),
]


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    cells = [[title for title, _ in columns], *([text(row) for _, text in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in cells)
