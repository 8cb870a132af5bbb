"""Open NumPy archives of arrays."""

import pathlib
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from semivit_jax.weights.tensors import Tensors, as_float32, check_readable

_BFLOAT16_STORED = np.dtype("V2")  # numpy has no name for it


def open_npz(path: pathlib.Path) -> Tensors:
    """Opens an .npz whose arrays are read on demand; nothing in it is unpickled.

    Raises:
      ValueError: no archive of arrays, or a damaged one.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not an .npz archive, or a damaged one")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.removesuffix(".npy") for name in archive.namelist()]
            headers = {name: _header(archive, name) for name in members}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not an .npz of arrays, or a damaged one ({error})") from error

    def read(name: str) -> np.ndarray:
        _, dtype = headers[name]
        halved = dtype == _BFLOAT16_STORED
        check_readable(name, "bfloat16" if halved else str(dtype))
        try:
            with np.load(path, allow_pickle=False) as arrays:
                array = arrays[name]
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: {name} is damaged ({error})") from error
        return as_float32(array.view(jnp.bfloat16) if halved else array)

    return Tensors({name: shape for name, (shape, _) in headers.items()}, read)


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, without its numbers."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype
