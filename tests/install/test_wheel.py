"""Install what is packed, and use it far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def ran(*command, **how):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    names = ran("git", "ls-files", "--cached", "--others", "--exclude-standard", "semivit_jax", "configs", "*.py",
                "pyproject.toml", "README.md", "LICENSE", cwd=ROOT)  # fmt: skip
    ran("tar", "--create", f"--file={folder}/code.tar", "--files-from=-", cwd=ROOT, input=names)
    (folder / "code").mkdir()
    ran("tar", "--extract", f"--file={folder}/code.tar", f"--directory={folder}/code")
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", folder / "code")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A folder without the checkout, and an environment with the wheel, which finds all else where these tests do."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"XDG_CACHE_HOME": str(folder / "cache")}
    ran(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    # From another folder and path: pip takes a checkout that it sees for the installed package.
    ran(sys.executable, "-m", "pip", "--python", folder / "venv/bin/python", "install", "--quiet", "--no-deps", wheel,
        cwd=folder, env=environ)  # fmt: skip
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    # Behind the wheel on the path. An editable installation there is a .pth file too, which is not followed.
    (site / "these.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return folder, environ


def test_the_wheel_carries_the_recipes_and_the_readme(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        about = packed.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {f"semivit_jax/configs/{recipe.name}" for recipe in (ROOT / "configs").glob("*.py")} <= set(names)
    assert {"semivit_jax/report/templates/page.html", "semivit_jax/report/templates/style.css"} <= set(names)
    assert {f"semivit_jax/labeling/page/{name}" for name in ("index.html", "page.css", "main.js")} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "configs/", "benchmarks/"))]
    assert (ROOT / "README.md").read_text()[:500] in about
    for extra in ("cuda12", "cuda13", "cuda", "tpu", "plan", "torch", "onnx"):
        assert f"Provides-Extra: {extra}\n" in about


def test_a_stage_runs_from_any_folder(elsewhere):
    folder, environ = elsewhere
    where = ran(folder / "venv/bin/python", "-c", "import semivit_jax; print(semivit_jax.__file__)", cwd=folder,
                env=environ)  # fmt: skip
    assert where.startswith(str(folder))
    semivit = folder / "venv/bin/semivit"
    assert "semi.base_lr" in ran(semivit, "train", "--config=digits", "--help", cwd=folder, env=environ)
    flags = ["--config.stages=('finetune',)", "--config.finetune.epochs=1", "--config.finetune.warmup_epochs=0"]
    flags += ["--config.log.report=False"]
    out = ran(semivit, "train", "--config=digits", "--workdir=run", *flags, cwd=folder, env=environ)
    assert "Runs on " in out
    assert (folder / "run" / "DONE").exists()
