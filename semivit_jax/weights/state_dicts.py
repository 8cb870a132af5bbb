"""Open the state dicts of a source, whatever their container and whoever wrapped them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from semivit_jax.weights.npz_file import open_npz
from semivit_jax.weights.prefixes import TEACHER_NOTE, teacher_alone, without_wrappers
from semivit_jax.weights.safetensors_file import open_safetensors
from semivit_jax.weights.tensors import StateDicts
from semivit_jax.weights.torch_file import TORCH_SUFFIXES, open_torch

_POINTER = b"version https://git-lfs"


def open_weights(paths: Sequence[pathlib.Path], listed: Mapping[str, str] = MappingProxyType({})) -> StateDicts:
    """Opens one file, or the parts of one split state dict; prefixes of wrappers are cut off.

    Args:
      paths: of the files.
      listed: tensor -> name of the file that it must be in, as an index says.

    Raises:
      ValueError: a file of another kind, a damaged one, one without a tensor that is listed, or a pointer in the
        place of one.
      ImportError: a PyTorch file, and torch is not installed.
    """
    for path in paths:
        _refuse_pointer(path)
    found = _open(paths)
    if not found.params.shapes:
        raise ValueError(f"{', '.join(map(str, paths))}: holds no tensors")
    lacking = [name for name in listed if name not in found.params.shapes]
    if lacking:
        more = f", and {len(lacking) - 1} more," if len(lacking) > 1 else ""
        raise ValueError(f"{listed[lacking[0]]} lacks {lacking[0]}{more} which the index says it holds")
    teacher = teacher_alone(found.params)
    if teacher is not None:
        found = dataclasses.replace(found, params=teacher, notes=(*found.notes, TEACHER_NOTE))
    return dataclasses.replace(
        found,
        params=without_wrappers(found.params),
        ema_params=None if found.ema_params is None else without_wrappers(found.ema_params),
    )


def _open(paths: Sequence[pathlib.Path]) -> StateDicts:
    if all(path.suffix == ".safetensors" for path in paths):
        return StateDicts(open_safetensors(paths), None, ())
    if all(path.suffix in TORCH_SUFFIXES for path in paths):
        return open_torch(paths)
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return StateDicts(open_npz(paths[0]), None, ())
    kinds = f".safetensors files, or {', '.join(TORCH_SUFFIXES)} files, or one .npz"
    raise ValueError(f"{', '.join(map(str, paths))}: expected {kinds}")


def _refuse_pointer(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path}: is not the weights, but a pointer of git-lfs to them: fetch them with `git lfs pull`"
            )
