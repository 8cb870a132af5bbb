"""Open safetensors files."""

import pathlib

import numpy as np
import safetensors

from semivit_jax.weights.tensors import Tensors, as_float32, check_readable

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}  # others are told as they stand


def open_safetensors(path: pathlib.Path) -> Tensors:
    """Opens a file.

    Raises:
      ValueError: not a safetensors file.
    """
    try:
        file = safetensors.safe_open(path, "np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error

    def read(name: str) -> np.ndarray:
        dtype = str(file.get_slice(name).get_dtype())
        check_readable(name, _DTYPES.get(dtype, dtype))
        return as_float32(file.get_tensor(name))

    return Tensors({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, read)  # noqa: SIM118
