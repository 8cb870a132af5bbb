"""Say what a logger is."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from semivit_jax.files import Path


class Writer(Protocol):
    """Takes a stage's numbers as they come."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of one step; some may not be finite."""
        ...

    def flush(self) -> None:
        """Returns once what was written is kept, here or by the program that sends it on."""
        ...

    def close(self) -> None:
        """Ends it, in order; no more will come of this start."""
        ...


class Row(NamedTuple):
    """A kind of logger.

    Attributes:
      open: (folder of the stage, step it goes on from or None) -> one; what it wrote after that step is removed, where
        that can be. What it needs is imported here.
      extra: of this package that brings what it imports; "" where nothing is needed.
      essential: whether every run has it, and its failure is the run's. All others work in threads of their own: one
        that fails or hangs is said, and missed by nobody.
    """

    open: Callable[[Path, int | None], Writer]
    extra: str = ""
    essential: bool = False
