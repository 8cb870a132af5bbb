"""Open the state dicts of a source, whatever their container and whoever wrapped them."""

import dataclasses
import pathlib
from collections.abc import Sequence

from semivit_jax.weights.npz_file import open_npz
from semivit_jax.weights.prefixes import TEACHER_NOTE, teacher_alone, without_wrappers
from semivit_jax.weights.safetensors_file import open_safetensors
from semivit_jax.weights.tensors import StateDicts
from semivit_jax.weights.torch_file import open_torch

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")  # the last as in .pth.tar
_POINTER = b"version https://git-lfs"


def open_weights(paths: Sequence[pathlib.Path]) -> StateDicts:
    """Opens one file, or the parts of one split state dict; prefixes of wrappers are cut off.

    Raises:
      ValueError: a file of another kind, a damaged one, or a pointer in the place of one.
      ImportError: a PyTorch file, and torch is not installed.
    """
    for path in paths:
        _refuse_pointer(path)
    found = _open(paths)
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
    if len(paths) == 1 and paths[0].suffix in TORCH_SUFFIXES:
        return open_torch(paths[0])
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return StateDicts(open_npz(paths[0]), None, ())
    kinds = f".safetensors files, or one of {', '.join((*TORCH_SUFFIXES, '.npz'))}"
    raise ValueError(f"{', '.join(map(str, paths))}: expected {kinds}")


def _refuse_pointer(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path}: is not the weights, but a pointer of git-lfs to them: fetch them with `git lfs pull`"
            )
