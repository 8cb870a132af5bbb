"""Export a trained classifier to the formats other tools read; the table FORMATS."""

import pathlib
from collections.abc import Callable

from semivit_jax import files
from semivit_jax.export.hugging_face import export_hugging_face
from semivit_jax.export.onnx_model import export_onnx
from semivit_jax.export.stablehlo import export_stablehlo
from semivit_jax.export.timm import export_timm
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights.weights import Weights
from semivit_jax.words import counted

FORMATS: dict[str, Callable[[pathlib.Path, Weights], None]] = {
    "timm": export_timm,
    "hugging_face": export_hugging_face,
    "onnx": export_onnx,
    "stablehlo": export_stablehlo,
}
"""What `semivit export --format` takes. A function makes its folder, once it knows that it can write the format."""

PLACE_FOR = {"an mlp head": ("onnx", "stablehlo"), "bottlenecks beside MLPs": ("stablehlo",)}
"""What a run may add to a backbone -> formats that hold it."""


def export(out: str | pathlib.Path, format: str, weights: Weights) -> None:
    """Writes a classifier into a new folder.

    Args:
      out: folder; made when absent, refused when it holds anything.
      format: a key of FORMATS.
      weights: of a classifier.

    Raises:
      ValueError: an unknown format, no classifier, or one that the format has no place for.
      FileExistsError: the folder is not empty.
      ImportError: the format needs a package that is not installed.
    """
    _check(weights)
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: must be one of {', '.join(FORMATS)}")
    _check_place(weights.spec, format)
    out = pathlib.Path(out)
    require_empty(out)
    with files.appearing(out) as folder:
        FORMATS[format](pathlib.Path(folder), weights)


def require_empty(out: pathlib.Path) -> None:
    """Raises FileExistsError where a folder holds anything."""
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: not empty, give another folder")


def _check_place(spec: ModelSpec, format: str) -> None:
    """Raises ValueError where a format has no place for what a run has added to a backbone."""
    added = {"an mlp head": spec.head == "mlp", "bottlenecks beside MLPs": spec.bottleneck is not None}
    for what, has in added.items():
        able = PLACE_FOR[what]
        if has and format not in able:
            raise ValueError(f"{spec.variant}: {format} has no place for {what}; take {' or '.join(able)}")


def _check(weights: Weights) -> None:
    spec, names, view = weights.spec, weights.output_names, weights.preprocessing
    if not spec.num_classes:
        raise ValueError(f"{spec.variant}: the model has no head, so there is no classifier to export")
    if len(names) != spec.num_classes:
        raise ValueError(f"{counted(len(names), 'class name')} for {counted(spec.num_classes, 'output')}")
    if view.image_size != spec.image_size:
        raise ValueError(f"preprocessing gives {view.image_size} pixels, the model takes {spec.image_size}")
