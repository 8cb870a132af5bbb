"""Define Public, weights that others publish and `semivit import` reads."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Public:
    """Weights on the hub of Hugging Face.

    Attributes:
      name: "org/name", as in hf://org/name.
      restricted: what its licence restricts, as its authors state; "" where nothing beyond naming them.
    """

    name: str
    restricted: str = ""
