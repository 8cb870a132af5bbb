"""What a break is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Break:
    """One mistake that somebody might make, and who must notice it.

    Attributes:
      path: of the module, relative to `semivit_jax/`.
      old: text that stands there exactly once.
      new: what takes its place; the module can still be imported.
      tests: what pytest is given, files or single tests; the cheapest ones that fail then.
    """

    path: str
    old: str
    new: str
    tests: tuple[str, ...]
