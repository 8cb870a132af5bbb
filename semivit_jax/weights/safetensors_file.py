"""Open safetensors files."""

import pathlib
from collections.abc import Sequence

import numpy as np
import safetensors

from semivit_jax.weights.tensors import Tensors, as_float32, check_readable

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}  # others are told as they stand


def open_safetensors(paths: Sequence[pathlib.Path]) -> Tensors:
    """Opens one file, or the parts of one split state dict.

    Raises:
      ValueError: not a safetensors file.
    """
    files = [_open_one(path) for path in paths]
    file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118  not a mapping

    def read(name: str) -> np.ndarray:
        dtype = str(file_of[name].get_slice(name).get_dtype())
        check_readable(name, _DTYPES.get(dtype, dtype))
        return as_float32(file_of[name].get_tensor(name))

    return Tensors({name: tuple(file.get_slice(name).get_shape()) for name, file in file_of.items()}, read)


def _open_one(path: pathlib.Path) -> safetensors.safe_open:
    try:
        return safetensors.safe_open(path, "np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
