"""What `benchmarks.gpu` measures, the most telling first, and which batches it tries."""

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax

from benchmarks import cases, twins
from benchmarks.attention import check_attention
from benchmarks.cases import Case
from benchmarks.ceilings import measure_ceilings
from benchmarks.kernels import measure_kernels
from benchmarks.measure import measure
from benchmarks.parts import measure_parts
from benchmarks.step import machine

Result = TypeVar("Result")
Record = dict[str, Any]

STEPS = 30
TINY = "vit_test2"  # the model of the cases on a CPU
TINY_STEPS = 3
# Largest first; beyond the first entry a bigger batch no longer fills the device any better.
BATCHES: dict[str, dict[str, tuple[int, ...]]] = {
    "semi": {"vit_s16": (128, 64, 32), "vit_b16": (64, 32, 16), "vit_l16": (32, 16, 8), "vit_h14": (16, 8, 4)},
    "finetune": {"vit_s16": (512, 256), "vit_b16": (256, 128), "vit_l16": (128, 64, 32), "vit_h14": (64, 32, 16)},
    "mae": {"vit_s16": (1024, 512), "vit_b16": (1024, 512), "vit_l16": (512, 256, 128), "vit_h14": (256, 128, 64)},
}
TELLING_FIRST = (
    ("machine", "", ""), ("attention", "", ""), ("case", "vit_b16", "semi"), ("case", "vit_l16", "semi"),
    ("kernels", "vit_l16", ""), ("twin", "vit_b16", "tuned"), ("twin", "vit_l16", "as usual"),
    ("twin", "vit_l16", "tuned"), ("twin", "vit_b16", "as usual"), ("case", "vit_l16", "mae"),
    ("published", "vit_h14", "semi"), ("case", "vit_h14", "semi"), ("kernels", "vit_b16", ""),
    ("parts", "vit_l16", ""), ("parts", "vit_b16", ""), ("case", "vit_b16", "mae"), ("case", "vit_s16", "semi"),
    ("case", "vit_b16", "finetune"), ("case", "vit_l16", "finetune"), ("case", "vit_h14", "mae"),
    ("case", "vit_h14", "finetune"), ("case", "vit_s16", "mae"), ("case", "vit_s16", "finetune"),
    ("twin", "vit_b16", "tuned, not compiled"), ("twin", "vit_l16", "tuned, not compiled"),
)  # fmt: skip
ON_A_CPU = (
    ("machine", "", ""), ("attention", "", ""), ("case", TINY, "semi"), ("case", TINY, "mae"), ("kernels", TINY, ""),
    ("parts", TINY, ""), ("twin", TINY, "tuned, not compiled"), ("twin", TINY, "as usual"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """One row of the benchmark. `kind` is one of `RUN`'s; `what` a stage, or which twin."""

    kind: str
    model: str
    what: str

    @property
    def name(self) -> str:
        return {
            "machine": "machine",
            "attention": "attention",
            "case": f"{self.what} {self.model}",
            "published": f"{self.what} {self.model}, published group",
            "kernels": f"kernels of semi {self.model}",
            "parts": f"parts of semi {self.model}",
            "twin": f"twin ({self.what}) {self.model}",
        }[self.kind]


@dataclasses.dataclass(frozen=True)
class Found:
    """What earlier rows say that later jobs need.

    Attributes:
      attention: 'auto', or 'xla' where cuDNN's kernel has failed its check.
      batches: '<stage> <model>' -> batch that fitted.
    """

    attention: str
    batches: Mapping[str, int]


class NothingFits(RuntimeError):
    """No batch of the list fits the device; the message names them."""


def all_jobs(*, accelerator: bool) -> list[Job]:
    return [Job(*entry) for entry in (TELLING_FIRST if accelerator else ON_A_CPU)]


def found_in(rows: Sequence[Record]) -> Found:
    """Reads attention's check and the batches that fitted off the rows so far."""
    checks = [row for row in rows if row["name"] == "attention"]
    trusted = not checks or checks[-1].get("trusted", False)
    fitted = {r["name"]: r["case"]["batch"] for r in rows if r["kind"] == "case" and "case" in r}
    return Found("auto" if trusted else "xla", fitted)


def run(job: Job, found: Found) -> Record:
    """The job's record, JSON-ready; raises what the measurement raises."""
    return {**RUN[job.kind](job, found), "kind": "case" if job.kind == "published" else job.kind}


def _machine(job: Job, found: Found) -> Record:
    if _on_cpu():
        ceilings = measure_ceilings(matmul_side=256, copy_bytes=2**20, repeats=3)
    else:  # milliseconds per call
        ceilings = measure_ceilings(matmul_side=8192, copy_bytes=2**31, repeats=10)
    return {**machine(), **dataclasses.asdict(ceilings)}


def _attention(job: Job, found: Found) -> Record:
    return check_attention(accelerator=not _on_cpu())


def _case(job: Job, found: Found) -> Record:
    return _recorded(_first_that_fits(_cases(job, found), lambda case: measure(case, steps=_steps(job))))


def _published(job: Job, found: Found) -> Record:
    case = dataclasses.replace(_full(job.model, job.what, found), batch=cases.PUBLISHED_GROUP[job.model])
    return _recorded(measure(case, steps=STEPS))


def _kernels(job: Job, found: Found) -> Record:
    return _recorded(measure_kernels(_fitting(job, found)))


def _parts(job: Job, found: Found) -> Record:
    return _recorded(measure_parts(_fitting(job, found), steps=_steps(job)))


def _twin(job: Job, found: Found) -> Record:
    """Half the largest batch or less, since two programs share the memory."""
    case = _fitting(job, found)
    smaller = [dataclasses.replace(case, batch=max(case.batch // share, 2)) for share in (2, 4)]
    compared = _first_that_fits(smaller, lambda case: twins.compare(case, job.what, steps=_steps(job)))
    return {**_recorded(compared), "twin_kind": job.what}


RUN: dict[str, Callable[[Job, Found], Record]] = {
    "machine": _machine,
    "attention": _attention,
    "case": _case,
    "published": _published,
    "kernels": _kernels,
    "parts": _parts,
    "twin": _twin,
}


def _full(model: str, stage: str, found: Found, batch: int = 2) -> Case:
    if model == TINY:
        return cases.tiny(stage)
    return dataclasses.replace(cases.full(model, stage, batch), attention=found.attention)


def _cases(job: Job, found: Found) -> list[Case]:
    """The case with every batch that is tried."""
    if job.model == TINY:
        return [cases.tiny(job.what)]
    return [_full(job.model, job.what, found, batch) for batch in BATCHES[job.what][job.model]]


def _fitting(job: Job, found: Found) -> Case:
    """The semi case with the largest batch that fitted, or the smallest of the list where none has run."""
    if job.model == TINY:
        return cases.tiny("semi")
    smallest = BATCHES["semi"][job.model][-1]
    return _full(job.model, "semi", found, found.batches.get(f"semi {job.model}", smallest))


def _first_that_fits(tried: Iterator[Case] | Sequence[Case], run: Callable[[Case], Result]) -> Result:
    """Steps down the list on running out of memory; any other error is raised."""
    batches = []
    for case in tried:
        batches.append(case.batch)
        try:
            return run(case)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # Here the error is gone, and with it the frames that held the arrays of this attempt.
        gc.collect()
        jax.clear_caches()
        twins.release_cached_memory()
    raise NothingFits(f"{case.stage} {case.model}: none of the batches {batches} fits this device")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether jax or PyTorch ran out of device memory; both raise subclasses of RuntimeError and say it in words."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _steps(job: Job) -> int:
    return TINY_STEPS if job.model == TINY else STEPS


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _recorded(measured: Any) -> Record:
    return dataclasses.asdict(measured)
