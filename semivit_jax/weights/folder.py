"""Write and read the folder of `semivit import`: params, ema_params, import.json."""

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from semivit_jax import files
from semivit_jax.files import AnyPath, Path
from semivit_jax.hosts import stopping
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.account import ImportReport
from semivit_jax.weights.importing import Imported
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.record import from_record, to_record
from semivit_jax.weights.weights import Weights

RECORD_FILE = "import.json"
PARAMS_FILE = "params.safetensors"
EMA_PARAMS_FILE = "ema_params.safetensors"


def save_imported(folder: AnyPath, imported: Imported, *, beside: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Writes the arrays under their "/"-joined paths, and everything else as JSON, which comes last.

    Args:
      folder: to write.
      imported: what comes into it.
      beside: further files of JSON, by name.

    Raises:
      FileExistsError: the folder already holds an import.
    """
    folder = files.path(folder)
    require_no_import(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)

    def remove() -> None:  # what is there without the record is no import, and takes room
        for name in (*beside, PARAMS_FILE, EMA_PARAMS_FILE, RECORD_FILE):
            (folder / name).unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # another program has put something there
                folder.rmdir()

    with stopping.undone_unless_whole(remove):
        for name, content in beside.items():
            files.write_json(folder / name, content)
        _write(folder, imported)


def _write(folder: Path, imported: Imported) -> None:
    weights = imported.weights
    for name, params in ((PARAMS_FILE, weights.params), (EMA_PARAMS_FILE, imported.ema_params)):
        if params is not None:
            with files.growing(folder / name) as temporary:
                safetensors.numpy.save_file(layout.flatten(params), temporary)
    record = {
        "facts": to_record(weights.spec),
        "preprocessing": weights.preprocessing.to_json(),
        "class_names": weights.class_names,
        "has_ema_params": imported.ema_params is not None,
        "pool": imported.pool,
        "report": imported.report.to_json(),
    }
    files.write_json(folder / RECORD_FILE, record)


def require_no_import(folder: AnyPath) -> None:
    """Raises FileExistsError where a folder already holds an import."""
    if is_import(folder):
        raise FileExistsError(f"{folder}: already holds an import, give another folder")


def is_import(folder: AnyPath) -> bool:
    """Whether a folder holds a finished import."""
    return (files.path(folder) / RECORD_FILE).is_file()


def load_preprocessing(folder: AnyPath) -> Preprocessing:
    """What the weights of an import expect their images to look like."""
    return Preprocessing.from_json(files.read_json(files.path(folder) / RECORD_FILE)["preprocessing"])


def load_spec(folder: AnyPath) -> ModelSpec:
    """The model that the weights of an import fit."""
    return from_record(files.read_json(files.path(folder) / RECORD_FILE)["facts"])


def load_pool(folder: AnyPath) -> str | None:
    """What a head on the weights of an import is to read; None where nothing tells, as in earlier imports."""
    return files.read_json(files.path(folder) / RECORD_FILE).get("pool")


def load_class_names(folder: AnyPath) -> tuple[str, ...] | None:
    """Names of the outputs of an import's head; None where nobody stored them."""
    names = files.read_json(files.path(folder) / RECORD_FILE)["class_names"]
    return None if names is None else tuple(names)


def stored_shapes(folder: AnyPath) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the weights of an import under dotted names; no array is read."""
    with files.on_a_disk(files.path(folder) / PARAMS_FILE) as local, safetensors.safe_open(local, "numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    return {name.replace("/", "."): jax.ShapeDtypeStruct(tuple(shape), "float32") for name, shape in shapes.items()}


def load_imported(folder: AnyPath) -> Imported:
    """Inverse of `save_imported`.

    Raises:
      FileNotFoundError: the folder holds no import, or an unfinished one.
    """
    folder = files.path(folder)
    if not (folder / RECORD_FILE).is_file():
        raise FileNotFoundError(f"{folder}: no {RECORD_FILE} here; `semivit import` writes such folders")
    record = files.read_json(folder / RECORD_FILE)
    return Imported(
        weights=Weights(
            spec=from_record(record["facts"]),
            params=_read(folder / PARAMS_FILE),
            class_names=load_class_names(folder),
            preprocessing=Preprocessing.from_json(record["preprocessing"]),
        ),
        ema_params=_read(folder / EMA_PARAMS_FILE) if record["has_ema_params"] else None,
        pool=record.get("pool"),
        report=ImportReport.from_json(record["report"]),
    )


def _read(file: Path) -> dict:
    with files.on_a_disk(file) as local, safetensors.safe_open(local, "numpy") as opened:
        return layout.unflatten({name: _tensor(opened, name) for name in opened.keys()})  # noqa: SIM118 - no mapping


def _tensor(file: safetensors.safe_open, name: str) -> np.ndarray:
    """One tensor, and of stacked blocks one after the other: no thread can answer a Ctrl-C while safetensors reads."""
    part = file.get_slice(name)
    if len(part.get_shape()) < 3:
        return file.get_tensor(name)
    return np.concatenate([part[block : block + 1] for block in range(part.get_shape()[0])])
