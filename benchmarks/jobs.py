"""What `benchmarks.gpu` measures, the most telling first, and which batches it tries."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks import cases, twins
from benchmarks.cases import Case
from benchmarks.ceilings import Ceilings, measure_ceilings
from benchmarks.measure import Measured, measure
from benchmarks.parts import measure_parts

STEPS = 30
# Largest first; beyond the first entry a bigger batch no longer fills the device any better.
BATCHES: dict[str, dict[str, tuple[int, ...]]] = {
    "semi": {"vit_s16": (128, 64, 32), "vit_b16": (64, 32, 16), "vit_l16": (32, 16, 8), "vit_h14": (16, 8, 4)},
    "finetune": {"vit_s16": (512, 256), "vit_b16": (256, 128), "vit_l16": (128, 64, 32), "vit_h14": (64, 32, 16)},
    "mae": {"vit_s16": (1024, 512), "vit_b16": (1024, 512), "vit_l16": (512, 256, 128), "vit_h14": (256, 128, 64)},
}
TELLING_FIRST = (
    ("case", "vit_b16", "semi"), ("case", "vit_l16", "semi"), ("twin", "vit_b16", "tuned"),
    ("twin", "vit_b16", "as usual"), ("case", "vit_l16", "mae"), ("twin", "vit_l16", "tuned"),
    ("twin", "vit_l16", "as usual"), ("published", "vit_h14", "semi"), ("case", "vit_h14", "semi"),
    ("parts", "vit_l16", "semi"), ("parts", "vit_b16", "semi"), ("case", "vit_b16", "mae"),
    ("case", "vit_s16", "semi"), ("case", "vit_b16", "finetune"), ("case", "vit_l16", "finetune"),
    ("case", "vit_h14", "mae"), ("case", "vit_h14", "finetune"), ("case", "vit_s16", "mae"),
    ("case", "vit_s16", "finetune"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """One row: a name, and a function that gives a JSON-ready record."""

    name: str
    run: Callable[[], dict[str, Any]]


class NothingFits(RuntimeError):
    """No batch of the list fits the device; the message names them."""


def accelerator_jobs() -> Iterator[Job]:
    """Every case of the full benchmark; batches found by the cases are used again by twins and parts."""
    fitted: dict[tuple[str, str], int] = {}
    for kind, model, what in TELLING_FIRST:
        if kind == "case":
            yield Job(f"{what} {model}", lambda m=model, w=what: largest_that_fits(m, w, fitted))
        elif kind == "published":
            case = cases.full(model, "semi", cases.PUBLISHED_GROUP[model])
            yield Job(f"semi {model}, published group", lambda c=case: record("case", measure(c, steps=STEPS)))
        elif kind == "twin":
            yield Job(f"twin ({what}) {model}", lambda m=model, w=what: twin(m, w, fitted))
        else:
            yield Job(f"parts of semi {model}", lambda m=model: parts(m, fitted))


def largest_that_fits(model: str, stage: str, fitted: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Steps down the list on running out of memory; any other error is raised."""
    batches = BATCHES[stage][model]
    for batch in batches:
        try:
            found = measure(cases.full(model, stage, batch), steps=STEPS)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
        else:
            fitted[model, stage] = batch
            return record("case", found)
    raise NothingFits(f"{stage} {model}: none of the batches {batches} fits this device")


def _fitting_case(model: str, fitted: dict[tuple[str, str], int]) -> Case:
    """The semi case with the largest batch that fitted, or the smallest of the list where none ran."""
    smallest = BATCHES["semi"][model][-1]
    return cases.full(model, "semi", fitted.get((model, "semi"), smallest))


def twin(model: str, kind: str, fitted: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Half the largest batch, since two programs share the memory."""
    case = _fitting_case(model, fitted)
    return compare_twin(dataclasses.replace(case, batch=max(case.batch // 2, 2)), kind, steps=STEPS)


def compare_twin(case: Case, kind: str, *, steps: int) -> dict[str, Any]:
    if absent := twins.missing():
        return {"kind": "twin", "not_run": f"{' and '.join(absent)} not installed"}
    return record("twin", twins.compare(case, kind, steps=steps), twin_kind=kind)


def parts(model: str, fitted: dict[tuple[str, str], int]) -> dict[str, Any]:
    return record("parts", measure_parts(_fitting_case(model, fitted), steps=STEPS))


def cpu_jobs() -> Iterator[Job]:
    """Tiny cases, so that the command is exercised wherever tests run."""
    for stage in ("semi", "mae"):
        yield Job(f"{stage} vit_test2", lambda s=stage: record("case", measure(cases.tiny(s), steps=3)))
    yield Job("parts of semi vit_test2", lambda: record("parts", measure_parts(cases.tiny("semi"), steps=3)))
    for kind in ("tuned", "as usual"):
        yield Job(f"twin ({kind}) vit_test2", lambda k=kind: compare_twin(cases.tiny("semi"), k, steps=3))


def ceilings(*, accelerator: bool) -> Ceilings:
    """Sizes that keep an accelerator busy for milliseconds; small ones elsewhere."""
    if accelerator:
        return measure_ceilings(matmul_side=8192, copy_bytes=2**31, repeats=30)
    return measure_ceilings(matmul_side=256, copy_bytes=2**20, repeats=3)


def record(kind: str, measured: Measured | Any, **more: Any) -> dict[str, Any]:
    """A JSON-ready record of any measured dataclass."""
    return {**dataclasses.asdict(measured), **more, "kind": kind}
