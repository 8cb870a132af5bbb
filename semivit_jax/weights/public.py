"""Define Public, weights that others publish and `semivit import` reads."""

import dataclasses

DINOV3_LICENCE = "DINOv3 License: conditions on use and passing on; gated"


@dataclasses.dataclass(frozen=True)
class Public:
    """Weights on the hub of Hugging Face.

    Attributes:
      name: "org/name", as in hf://org/name.
      restricted: what its licence restricts, as its authors state; "" where nothing beyond naming them.
    """

    name: str
    restricted: str = ""
