"""Know the extras of this package: which are installed, and the line that installs one beside the Python that runs."""

import importlib.metadata
import importlib.util
import shlex
import sys
from pathlib import Path

EXTRAS = {  # name in setup.py: (module that it brings, what that is for)
    "cuda13": ("jax_cuda13_plugin", "NVIDIA GPUs, driver 580 or newer"),
    "cuda12": ("jax_cuda12_plugin", "NVIDIA GPUs, driver 525 or newer"),
    "tpu": ("libtpu", "TPUs, and `semivit plan` for them"),
    "gcs": ("gcsfs", "workdirs, imports and data in gs:// buckets"),
    "heic": ("pi_heif", "photos of iPhones (.heic, .heif)"),
    "select": ("skactiveml", "`semivit select` by TypiClust, ProbCover and others"),
    "report": ("jinja2", "`semivit report`, and the report that a run ends with"),
    "label": ("starlette", "`semivit label`, the page in a browser"),
    "torch": ("torch", "weights in .pth and .ckpt files"),
    "onnx": ("onnx", "`semivit export --format=onnx`"),
    "wandb": ("wandb", "the logger wandb, Weights & Biases (config.log.writers)"),
    "mlflow": ("mlflow", "the logger mlflow, and its store on a disk (config.log.writers)"),
    "trackio": ("trackio", "the logger trackio (config.log.writers)"),
}
UNPINNED = ("trackio",)  # asks for an older Pillow than the pinned one; this package takes either


def installed(extra: str) -> bool:
    """Whether what an extra brings can be imported."""
    return importlib.util.find_spec(EXTRAS[extra][0]) is not None


def install_line(extra: str) -> str:
    """The command that adds an extra to the Python that runs: from the checkout, or to an installed wheel."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    checkout = Path(__file__).parents[2]
    constraints = checkout / "requirements" / "constraints.txt"
    if constraints.exists():
        pins = "" if extra in UNPINNED else f" -c {shlex.quote(str(constraints))}"
        return f"{pip}{pins} -e {shlex.quote(f'{checkout}[{extra}]')}"
    # Nothing says where the wheel came from, so what the extra stands for is named.
    return " ".join([pip, *map(shlex.quote, requirements(extra))])


def requirements(extra: str) -> list[str]:
    """What an extra of the installed package stands for, as pip takes it."""
    rows = [row.partition(";") for row in importlib.metadata.requires("semivit_jax") or ()]
    return [needed.strip() for needed, _, marker in rows if f'extra == "{extra}"' in marker]
