"""Weights out: a trained classifier in the formats other tools read."""

import importlib.util
import pathlib
from collections.abc import Callable

from semivit_jax.export.bundle import Bundle
from semivit_jax.export.hugging_face import export_hugging_face
from semivit_jax.export.stablehlo import export_stablehlo
from semivit_jax.export.timm import export_timm

__all__ = ["FORMATS", "Bundle", "export"]


def _export_onnx(folder: pathlib.Path, bundle: Bundle) -> None:
    from semivit_jax.export.onnx_model import export_onnx  # needs onnx, the other formats do not

    export_onnx(folder, bundle)


FORMATS: dict[str, Callable[[pathlib.Path, Bundle], None]] = {
    "timm": export_timm,
    "hugging_face": export_hugging_face,
    "onnx": _export_onnx,
    "stablehlo": export_stablehlo,
}
"""What `semivit export --format` takes."""


def export(out: str | pathlib.Path, format: str, bundle: Bundle) -> None:
    """Writes a classifier into a new folder.

    Args:
      out: folder; made when absent, refused when it holds anything.
      format: a key of FORMATS.
      bundle: the classifier.

    Raises:
      ValueError: an unknown format.
      FileExistsError: the folder is not empty.
      ImportError: "onnx" without the onnx package.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: must be one of {', '.join(FORMATS)}")
    if format == "onnx" and importlib.util.find_spec("onnx") is None:  # before the folder is made
        raise ImportError("writing ONNX needs onnx: pip install -c requirements/constraints.txt -e '.[onnx]'")
    out = pathlib.Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: not empty, give another folder")
    out.mkdir(parents=True, exist_ok=True)
    FORMATS[format](out, bundle)
