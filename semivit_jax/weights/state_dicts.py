"""Open the state dicts of a source, whatever their container and whoever wrapped them."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from semivit_jax.weights import parts
from semivit_jax.weights.npz_file import open_npz
from semivit_jax.weights.prefixes import TEACHER_NOTE, teacher_alone, without_wrappers
from semivit_jax.weights.safetensors_file import open_safetensors
from semivit_jax.weights.tensors import StateDicts, Tensors
from semivit_jax.weights.torch_file import TORCH_SUFFIXES, open_torch, open_torch_part

_POINTER = b"version https://git-lfs"


def open_weights(paths: Sequence[pathlib.Path], listed: Mapping[str, str] = MappingProxyType({})) -> StateDicts:
    """Opens one file, or the parts of one split state dict; prefixes of wrappers are cut off.

    Args:
      paths: of the files.
      listed: tensor -> name of the file that it must be in, as an index says.

    Raises:
      ValueError: a file of another kind, a damaged one, a pointer in the place of one, or parts that are not what
        the index says (`parts.joined`).
      ImportError: a PyTorch file, and torch is not installed.
    """
    for path in paths:
        _refuse_pointer(path)
    found = _open(paths, listed)
    if not found.params.shapes:
        raise ValueError(f"{', '.join(map(str, paths))}: holds no tensors")
    teacher = teacher_alone(found.params)
    if teacher is not None:
        found = dataclasses.replace(found, params=teacher, notes=(*found.notes, TEACHER_NOTE))
    return dataclasses.replace(
        found,
        params=without_wrappers(found.params),
        ema_params=None if found.ema_params is None else without_wrappers(found.ema_params),
    )


def _open(paths: Sequence[pathlib.Path], listed: Mapping[str, str]) -> StateDicts:
    if all(path.suffix == ".safetensors" for path in paths):
        return _joined(paths, listed, open_safetensors)
    if all(path.suffix in TORCH_SUFFIXES for path in paths):
        return open_torch(paths[0]) if len(paths) == 1 and not listed else _joined(paths, listed, open_torch_part)
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return StateDicts(open_npz(paths[0]), None, ())
    kinds = f".safetensors files, or {', '.join(TORCH_SUFFIXES)} files, or one .npz"
    raise ValueError(f"{', '.join(map(str, paths))}: expected {kinds}")


def _joined(
    paths: Sequence[pathlib.Path], listed: Mapping[str, str], opened: Callable[[pathlib.Path], Tensors]
) -> StateDicts:
    params, notes = parts.joined({path.name: opened(path) for path in paths}, listed)
    return StateDicts(params, None, notes)


def _refuse_pointer(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path}: is not the weights, but a pointer of git-lfs to them: fetch them with `git lfs pull`"
            )
