"""Define Tensors, a state dict read on demand, and StateDicts, what a file of weights holds."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

READABLE = ("float32", "float16", "bfloat16", "float64")


@dataclasses.dataclass(frozen=True)
class Tensors:
    """A state dict whose tensors are read on demand.

    Attributes:
      shapes: name -> shape, in file order.
      read: name -> float32 array (half precisions are widened, float64 is rounded).
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]

    def renamed(self, new: Callable[[str], str]) -> "Tensors":
        """The same tensors under other names.

        Raises:
          ValueError: two of them would have the same name.
        """
        original: dict[str, str] = {}
        for name in self.shapes:
            if (other := original.setdefault(new(name), name)) != name:
                raise ValueError(f"{other} and {name} would both be {new(name)}: take one of them out")
        return Tensors(
            shapes={name: self.shapes[old] for name, old in original.items()},
            read=lambda name: self.read(original[name]),
        )

    def without_prefix(self, prefix: str) -> "Tensors":
        """The same tensors, `prefix` cut off the names that have it."""
        return self.renamed(lambda name: name.removeprefix(prefix))

    def replaced(self, name: str, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> "Tensors":
        """The same tensors but for one."""
        return Tensors({**self.shapes, name: shape}, lambda asked: read() if asked == name else self.read(asked))


@dataclasses.dataclass(frozen=True)
class StateDicts:
    """What a weight file holds.

    Attributes:
      params: the weights.
      ema_params: their moving average, where the file has both.
      notes: what people should know of the choice.
    """

    params: Tensors
    ema_params: Tensors | None
    notes: tuple[str, ...]


def check_readable(name: str, dtype: str) -> None:
    """Raises ValueError for numbers that are no plain weights, such as quantised ones."""
    if dtype not in READABLE:
        raise ValueError(f"{name} holds {dtype}: only {', '.join(READABLE)} are read; convert the weights first")


def as_float32(array: np.ndarray) -> np.ndarray:
    """Widens or rounds; what float32 cannot hold becomes infinite, which nobody takes for a weight (`fill`)."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)
