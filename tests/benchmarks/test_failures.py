"""The accelerator benchmark when things go wrong: memory runs out, a case dies, hangs, or the minutes end."""

import json
import re
import sys
import time
import types
import weakref
from pathlib import Path

import jax
import pytest

from benchmarks import gpu, jobs, measure, twins
from benchmarks.jobs import Found, Job

NOTHING = Found("auto", {})
SEMI = Job("case", "vit_b16", "semi")
GPU_MESSAGE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 6291456 bytes."
MACHINE = {
    "kind": "machine", "backend": "gpu", "num_devices": 1, "device": "fake", "jax": "0", "flax": "0",
    "matmul_side": 8, "matmul_flops_per_second": 1e12, "copy_bytes_per_second": 1e9,
}  # fmt: skip


class TorchOutOfMemory(RuntimeError):
    """As `torch.OutOfMemoryError`: a RuntimeError that says it in words."""


class Array:
    """Stands for device memory that an attempt holds."""


def memory_runs_out_above(limit, kind, message):
    """A measurement that fails like a device too small for more than `limit`, while it holds an array."""
    alive = []

    def run(case, **_):
        held = Array()
        alive.append(weakref.ref(held))
        assert sum(ref() is not None for ref in alive) == 1, "the last attempt still holds memory"
        if case.batch > limit:
            raise kind(message)
        return case

    return run


@pytest.fixture(autouse=True)
def programs_of_other_tests_stay(monkeypatch):
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (jax.errors.JaxRuntimeError, GPU_MESSAGE),
        (jax.errors.JaxRuntimeError, "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        (TorchOutOfMemory, "CUDA out of memory. Tried to allocate 524.00 MiB."),
    ],
)
def test_batches_step_down_and_release_what_they_held(kind, message, monkeypatch):
    monkeypatch.setattr(jobs, "measure", memory_runs_out_above(20, kind, message))
    assert jobs.run(SEMI, NOTHING)["batch"] == 16


def test_nothing_fits_names_the_batches(monkeypatch):
    monkeypatch.setattr(jobs, "measure", memory_runs_out_above(0, jax.errors.JaxRuntimeError, GPU_MESSAGE))
    with pytest.raises(jobs.NothingFits, match=r"semi vit_b16: none of the batches \[64, 32, 16\] fits"):
        jobs.run(SEMI, NOTHING)


def test_other_errors_do_not_step_down(monkeypatch):
    tried = []

    def run(case, **_):
        tried.append(case.batch)
        raise jax.errors.JaxRuntimeError("INTERNAL: no kernel image")

    monkeypatch.setattr(jobs, "measure", run)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no kernel image"):
        jobs.run(SEMI, NOTHING)
    assert tried == [64]


def test_a_program_larger_than_the_device_is_refused_before_it_runs(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 100})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    measure._check_fits(100)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        measure._check_fits(101)
    assert jobs.out_of_memory(caught.value)


def test_twins_take_half_of_what_fitted_and_the_kernel_that_is_trusted(monkeypatch):
    seen = []
    monkeypatch.setattr(twins, "compare", lambda case, kind, **_: seen.append((case, kind)) or case)
    rows = [
        {"name": "attention", "kind": "attention", "trusted": False},
        {"name": "semi vit_b16", "kind": "case", "case": {"batch": 32}},
        {"name": "semi vit_l16", "kind": "case", "not_run": "out of time"},
    ]
    found = jobs.found_in(rows)
    jobs.run(Job("twin", "vit_b16", "tuned"), found)
    jobs.run(Job("twin", "vit_l16", "tuned"), found)
    assert [(case.batch, case.attention, kind) for case, kind in seen] == [(16, "xla", "tuned"), (4, "xla", "tuned")]
    assert jobs.found_in(rows[1:]).attention == "auto"  # a run of other jobs only
    failed = {"name": "attention", "kind": "attention", "not_run": "ended by signal 11"}
    assert jobs.found_in([failed]).attention == "xla"


@pytest.fixture
def child(monkeypatch):
    """Runs Python code in the place of `benchmarks.one_job`; `record` is where the row goes."""
    real = gpu.subprocess.Popen

    def use(code):
        def start(command, **options):
            record = command[command.index("--record") + 1]
            return real([sys.executable, "-c", f"record = {record!r}\n{code}"], **options)

        monkeypatch.setattr(gpu.subprocess, "Popen", start)

    return use


def test_a_case_that_dies_is_listed_with_its_reason(child, tmp_path):
    log = tmp_path / "log.txt"
    child("import os, sys; print('about to', flush=True); os.kill(os.getpid(), 11)")
    assert gpu.run_apart(SEMI, [], seconds=60, log=log)["not_run"] == "ended by signal 11: about to"
    child("raise ValueError('head dimension\\n  of 12')")
    row = gpu.run_apart(SEMI, [], seconds=60, log=log)
    assert row == {"kind": "case", "not_run": "exit code 1: ValueError: head dimension"}
    assert "of 12" in log.read_text()


def test_a_case_that_hangs_is_given_up_with_what_it_started(child, tmp_path):
    pid = tmp_path / "pid"
    child(
        "import subprocess, sys, time\n"
        f"started = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid)!r}, 'w').write(str(started.pid))\ntime.sleep(60)"
    )
    row = gpu.run_apart(SEMI, [], seconds=3, log=tmp_path / "log.txt")
    assert row["not_run"] == "given up after 3 s"
    for _ in range(100):
        if not running(int(pid.read_text())):
            return
        time.sleep(0.1)
    pytest.fail("what the case started is still running")


def running(pid):
    """Whether a process lives; one that has ended and is not yet collected does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return not re.search(r"^State:\s+Z", status, re.MULTILINE)


@pytest.fixture
def few_jobs(monkeypatch):
    """Three jobs, answered by a function of the name; returns the names that were asked for."""
    asked = []

    def use(answer):
        def run_apart(job, rows, *, seconds, log):
            asked.append(job.name)
            return {**MACHINE} if job.kind == "machine" else {"kind": job.kind, **answer(job.name, seconds)}

        monkeypatch.setattr(gpu, "run_apart", run_apart)
        entries = [Job("machine", "", ""), SEMI, Job("kernels", "vit_b16", "")]
        monkeypatch.setattr(jobs, "all_jobs", lambda *, accelerator: entries)
        return asked

    return use


KERNELS = {"matmul": 0.1, "attention": 0.1, "other": 0.1, "other_share": 1 / 3}


def lines(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_one_failure_ends_nothing_and_is_run_again_on_resume(few_jobs, tmp_path, capsys):
    asked = few_jobs(lambda name, _: {"not_run": "exit code 1"} if name == "semi vit_b16" else KERNELS)
    gpu.main(["--out", str(tmp_path), "--minutes=1"])
    assert "not run: semi vit_b16 (exit code 1)" in capsys.readouterr().out
    assert asked == ["machine", "semi vit_b16", "kernels of semi vit_b16"]
    with (tmp_path / "results.jsonl").open("a") as results:
        results.write('{"name": "cut o')  # as a killed run leaves it
    asked.clear()
    gpu.main(["--out", str(tmp_path), "--minutes=1", "--resume"])
    assert asked == ["machine", "semi vit_b16"]
    assert [(row["name"], row["run"]) for row in lines(tmp_path)] == [
        ("machine", 1), ("kernels of semi vit_b16", 1), ("machine", 2), ("semi vit_b16", 2)
    ]  # fmt: skip


def test_rows_and_table_are_on_disk_before_the_next_case_starts(few_jobs, tmp_path):
    def answer(name, _):
        if name == "kernels of semi vit_b16":
            seen.append(([row["name"] for row in lines(tmp_path)], (tmp_path / "table.txt").read_text()))
        return {"not_run": "exit code 1"}

    seen = []
    few_jobs(answer)
    gpu.main(["--out", str(tmp_path), "--minutes=1"])
    ((names, table),) = seen
    assert names == ["machine", "semi vit_b16"]
    assert "not run: semi vit_b16" in table


def test_no_case_may_outlast_the_minutes(few_jobs, tmp_path):
    given = []
    few_jobs(lambda name, seconds: given.append(seconds) or KERNELS if "kernels" in name else {"not_run": "?"})
    gpu.main(["--out", str(tmp_path), "--minutes=1", "--case-minutes=0.5", "--only=kernels.*"])
    gpu.main(["--out", str(tmp_path), "--minutes=0.25", "--case-minutes=0.5", "--only=kernels.*"])
    assert 29 < given[0] <= 30
    assert 14 < given[1] <= 15


def test_no_time_starts_no_process(child, tmp_path):
    child("raise SystemExit('started')")
    assert gpu.run_apart(SEMI, [], seconds=0, log=tmp_path / "log.txt")["not_run"] == "out of time"


def test_shares_of_the_memory_leave_room_for_a_twin(monkeypatch, tmp_path):
    monkeypatch.delenv("XLA_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    alone, twin = gpu.environment(SEMI, tmp_path), gpu.environment(Job("twin", "vit_b16", "tuned"), tmp_path)
    assert float(twin["XLA_CLIENT_MEM_FRACTION"]) < 0.5 < float(alone["XLA_CLIENT_MEM_FRACTION"]) < 1
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.7")  # jax refuses both names at once
    assert "XLA_CLIENT_MEM_FRACTION" not in gpu.environment(SEMI, tmp_path)


def test_compiled_programs_are_kept_except_where_compiling_is_timed(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    for kind, kept in (("case", False), ("published", False), ("parts", True), ("twin", True), ("kernels", True)):
        chosen = gpu.environment(Job(kind, "vit_b16", "semi"), tmp_path)
        assert (chosen.get("JAX_COMPILATION_CACHE_DIR") == str(tmp_path)) is kept
