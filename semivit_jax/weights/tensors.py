"""Read state dicts one tensor at a time: safetensors, and PyTorch files without running code."""

import argparse
import dataclasses
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors


@dataclasses.dataclass(frozen=True)
class Tensors:
    """A state dict whose tensors are read on demand.

    Attributes:
      shapes: name -> shape, in file order.
      read: name -> float32 array (half precisions are widened, float64 is rounded).
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]

    def without_prefix(self, prefix: str) -> "Tensors":
        """The same tensors, `prefix` cut off the names that have it."""
        original = {name.removeprefix(prefix): name for name in self.shapes}
        return Tensors(
            shapes={name: self.shapes[old] for name, old in original.items()},
            read=lambda name: self.read(original[name]),
        )


@dataclasses.dataclass(frozen=True)
class StateDicts:
    """What a weight file holds.

    Attributes:
      params: the weights.
      ema_params: their moving average, where the file has both.
    """

    params: Tensors
    ema_params: Tensors | None


def open_weights(paths: Sequence[pathlib.Path]) -> StateDicts:
    """Opens one file, or the parts of one split state dict.

    Raises:
      ValueError: the file is neither safetensors nor a PyTorch file of tensors.
      ImportError: a PyTorch file, and torch is not installed.
    """
    if all(path.suffix == ".safetensors" for path in paths):
        return StateDicts(params=_open_safetensors(paths), ema_params=None)
    if len(paths) == 1 and paths[0].suffix in (".pth", ".pt", ".bin"):
        return _open_torch(paths[0])
    raise ValueError(f"{', '.join(map(str, paths))}: expected .safetensors files or one .pth, .pt or .bin file")


def _open_safetensors(paths: Sequence[pathlib.Path]) -> Tensors:
    files = [_open_one(path) for path in paths]
    file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118  not a mapping
    return Tensors(
        shapes={name: tuple(file.get_slice(name).get_shape()) for name, file in file_of.items()},
        read=lambda name: _as_float32(file_of[name].get_tensor(name)),
    )


def _open_one(path: pathlib.Path) -> safetensors.safe_open:
    try:
        return safetensors.safe_open(path, "np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False)


_CHECKPOINT_KEYS = (("model", "model_ema"), ("state_dict", "state_dict_ema"), ("teacher", ""))  # and its average


def _open_torch(path: pathlib.Path) -> StateDicts:
    """Picks the weights out of a plain state dict or of a training checkpoint.

    Known checkpoints: MAE and Semi-ViT (`model`, `model_ema`), timm (`state_dict`, `state_dict_ema`), DINO
    (`teacher`, whose `student` is not read: the published DINO weights are the teacher's).
    """
    content = _load_torch(path)
    for params_key, ema_key in _CHECKPOINT_KEYS:
        if isinstance(content.get(params_key), Mapping):
            ema = content.get(ema_key)
            return StateDicts(
                params=_torch_tensors(path, content[params_key]),
                ema_params=_torch_tensors(path, ema) if isinstance(ema, Mapping) else None,
            )
    return StateDicts(params=_torch_tensors(path, content), ema_params=None)


def _torch_tensors(path: pathlib.Path, state_dict: Mapping[str, Any]) -> Tensors:
    others = [str(name) for name, value in state_dict.items() if not hasattr(value, "shape")]
    if others:
        raise ValueError(
            f"{path}: expected a state dict of tensors, or a checkpoint holding one under 'model', "
            f"'state_dict' or 'teacher'; these entries are no tensors: {', '.join(others[:5])}"
        )
    # Wrappers of parallel training and of DINO's heads put these in front.
    tensors = Tensors(
        shapes={name: tuple(value.shape) for name, value in state_dict.items()},
        read=lambda name: state_dict[name].float().numpy(),
    )
    return tensors.without_prefix("module.").without_prefix("backbone.")


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
            f"{f' ({found[1]})' if found else ''}, and loading those can run code"
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
