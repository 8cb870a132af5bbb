"""Open PyTorch files without running code, and pick the weights out of training checkpoints."""

import argparse
import pathlib
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semivit_jax.weights.tensors import StateDicts, Tensors, as_float32, check_readable

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")  # the last as in .pth.tar

# Where training checkpoints keep them, one inside the other as may be; a student that has no teacher comes last.
_WEIGHTS = ("model", "state_dict", "teacher", "student")
_AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict")  # and their moving average


def open_torch_part(path: pathlib.Path) -> Tensors:
    """Opens one part of a split state dict, which is a plain state dict; raises as `open_torch`."""
    return _tensors(path, _load_torch(path))


def open_torch(path: pathlib.Path) -> StateDicts:
    """Picks the weights out of a plain state dict or of a training checkpoint.

    Known checkpoints: MAE and Semi-ViT (`model`, `model_ema`), timm and Lightning (`state_dict`, `state_dict_ema`),
    DINO and DINOv2 (`teacher`, whose `student` is not read: the published weights are the teacher's). They may lie one
    in the other. A moving average alone is taken for the weights.

    Raises:
      ValueError: not a PyTorch file of tensors.
      ImportError: torch is not installed.
    """
    content = _load_torch(path)
    weights, average = (_within(content, keys) for keys in (_WEIGHTS, _AVERAGES))
    if weights is not None:
        return StateDicts(_tensors(path, weights), None if average is None else _tensors(path, average), ())
    if average is not None:
        note = "the file holds a moving average alone: it is taken as the weights"
        return StateDicts(_tensors(path, average), None, (note,))
    return StateDicts(_tensors(path, content), None, ())


def _within(content: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any] | None:
    """The state dict under one of `keys`, the first there is, as deep as it lies; None where there is none."""
    found = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), None)
    return None if found is None else _within(found, _WEIGHTS) or found


def _tensors(path: pathlib.Path, state_dict: Mapping[str, Any]) -> Tensors:
    others = [str(name) for name, value in state_dict.items() if not hasattr(value, "shape")]
    if others:
        known = ", ".join(map(repr, (*_WEIGHTS, *_AVERAGES)))
        raise ValueError(
            f"{path}: expected a state dict of tensors, or a checkpoint holding one under one of {known}; "
            f"these entries are no tensors: {', '.join(others[:5])}"
        )

    def read(name: str) -> np.ndarray:
        tensor = state_dict[name].detach()  # a parameter would give numpy nothing
        check_readable(name, str(tensor.dtype).removeprefix("torch."))
        widened = tensor if tensor.element_size() >= 4 else tensor.float()  # numpy has no bfloat16
        return as_float32(widened.numpy())

    return Tensors({name: tuple(value.shape) for name, value in state_dict.items()}, read)


def _load_torch(path: pathlib.Path) -> Mapping[str, Any]:
    """Unpickles tensors and `argparse.Namespace` (training checkpoints carry their `args`), nothing else."""
    try:
        import torch  # an extra: everything else works without it
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs torch: `pip install -c requirements/constraints.txt -e '.[torch]'`, or convert "
            "the file to safetensors where torch is available"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path}: refused, because it holds Python objects other than tensors and argparse.Namespace"
            f"{f' ({found[1]})' if found else ''}, and loading those can run code: where you trust the file, save its "
            "state dict alone"
        ) from error
    except (OSError, MemoryError):  # of the disk or the machine, not of the file's content; they say what it is
        raise
    except Exception as error:
        # Bytes that are no pickle fail anywhere in the unpickler, as whatever an instruction on odd operands gives:
        # KeyError, IndexError, TypeError, UnicodeDecodeError, struct.error, RuntimeError of the zip reader and more.
        lines = str(error).splitlines() or [""]
        raise ValueError(
            f"{path}: not a PyTorch file, or a damaged one ({type(error).__name__}: {lines[0]})"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return content


def _is_zip(path: pathlib.Path) -> bool:
    """PyTorch files since 1.6 are zip archives and can be mapped into memory; older ones cannot."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
