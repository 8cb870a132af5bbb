"""The benchmark commands run on a CPU, and need nothing but jax, flax, optax and this package's source."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cases, step, xla_flags
from semivit_jax.models import families
from tests.compiled import QUICK_FLAGS

ROOT = Path(__file__).parents[2]
# Flax itself brings rich and orbax, so those are there.
ABSENT = ("tensorflow", "grain", "tensorflow_datasets", "ml_collections", "cv2", "PIL", "sklearn", "tensorboardX",
          "simplejpeg", "torch", "timm")  # fmt: skip


def python(folder, *arguments, flags=QUICK_FLAGS):
    """Runs Python with the arguments, in a process (and its children) that cannot import the absent packages."""
    # Python imports this file by itself before anything else.
    (folder / "sitecustomize.py").write_text(f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\n")
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{folder}:{ROOT}", "XLA_FLAGS": flags},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_absent_packages_are_absent(tmp_path):
    tries = "\n".join(f"try: import {name}\nexcept ModuleNotFoundError: print({name!r})" for name in ABSENT)
    assert python(tmp_path, "-c", tries).stdout.split() == list(ABSENT)


@pytest.mark.slow
def test_step_prints_one_json_line(tmp_path):
    options = "--model=vit_test2 --stage=finetune --batch=2 --steps=2 --image-size=32 --num-classes=10 --dtype=float32"
    done = python(tmp_path, "-m", "benchmarks.step", *options.split())
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["backend"] == "cpu"
    assert found["model_flops"] > 0
    assert found["labeled_per_second"] == pytest.approx(2 / found["step_seconds"])
    assert 0 < found["input_wait_share"] < 1


@pytest.mark.parametrize("model", families.variants())
def test_a_step_has_images_of_its_models_own_size(model):
    """Tokens by the thousand would take memory by the terabyte."""
    found, family = step.parse([f"--model={model}"]), families.of(model)
    side, rest = divmod(found.image_size, family.stride(family.sizes[model]))
    assert (rest, side <= 16) == (0, True)
    assert cases.full("vit_digits", "semi", 2).image_size == 8
    assert step.parse([f"--model={model}", "--image-size=64"]).image_size == 64


@pytest.mark.parametrize(
    ("flag", "said"),
    [pytest.param("--model=vit_b17", "vit_b17", marks=pytest.mark.slow), ("--batch=3", "micro-batch, got 3")],
)
def test_a_step_that_cannot_be_is_told_in_one_line(tmp_path, flag, said):
    done = python(tmp_path, "-m", "benchmarks.step", "--stage=finetune", flag)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


@pytest.mark.slow
def test_the_accelerator_benchmark_runs_tiny_cases_on_a_cpu(tmp_path):
    out = tmp_path / "out"
    done = python(tmp_path, "-m", "benchmarks.gpu", f"--out={out}", "--minutes=20")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    kinds = [row["kind"] for row in rows]
    assert kinds == ["machine", "attention", "case", "case", "kernels", "parts", "twin", "twin"]
    # The packages that are absent keep the twins from running, and nothing else.
    assert [row["not_run"] for row in rows if "not_run" in row] == ["torch and timm not installed"] * 2
    for row in rows[2:4]:
        assert all(math.isfinite(v) and v >= 0 for v in row.values() if isinstance(v, float)), row
    assert 0 < rows[4]["other_share"] < 1
    table = (out / "table.txt").read_text()
    assert done.stdout == table
    for name in ("semi vit_test2", "mae vit_test2", "parts, ms", "kernels, ms", "error against float32"):
        assert name in table


@pytest.mark.slow
@pytest.mark.parametrize("preset", xla_flags.PRESETS)
def test_presets_name_flags_that_xla_knows(preset, tmp_path):
    """XLA ends the process over an unknown flag, on every backend."""
    environment = {}
    xla_flags.apply(preset, environment)
    assert python(tmp_path, "-c", "import jax; jax.devices()", flags=environment["XLA_FLAGS"]).returncode == 0


@pytest.mark.slow
def test_the_flag_test_can_fail(tmp_path):
    assert python(tmp_path, "-c", "import jax; jax.devices()", flags="--xla_gpu_no_such_flag=1").returncode != 0


def test_flags_of_the_user_win():
    environment = {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}
    xla_flags.apply("gpu", environment)
    assert environment["XLA_FLAGS"].endswith("--xla_gpu_autotune_level=0")
    with pytest.raises(ValueError, match="legal values: gpu, gpus"):
        xla_flags.apply("fast", environment)


@pytest.mark.slow
def test_scaling_runs_on_every_number_of_devices(tmp_path):
    out = tmp_path / "scaling.jsonl"
    options = f"--model=vit_test2 --stage=finetune --batch=16 --steps=1 --out={out}"
    done = python(tmp_path, "-m", "benchmarks.scaling", *options.split())
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["devices"], r["fsdp"]) for r in rows] == [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (8, 1), (8, 8)]
    assert rows[-1]["state_bytes"] < rows[-2]["state_bytes"] == rows[0]["state_bytes"] == rows[0]["checkpoint_bytes"]
    for row in rows:
        assert row["save_blocked_steps"] == pytest.approx(row["save_blocked_seconds"] / row["step_seconds"])


@pytest.mark.slow
def test_an_import_holds_its_weights_at_most_three_times(tmp_path):
    """Large enough that what Python and jax themselves take hardly counts."""
    command = [sys.executable, "-m", "benchmarks.import_size", f"--dir={tmp_path}", "--model=dinov2_l14"]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert found["peak_bytes"] < 3 * found["bytes"]
    assert not list(tmp_path.iterdir())
