"""What a dataset is built from."""

import dataclasses
from collections.abc import Mapping

from semivit_jax.data.image_set import ImageSet


@dataclasses.dataclass(frozen=True)
class Source:
    """Raw images with names and labels, by split."""

    kind: str  # what SOURCE was taken for, for people
    splits: Mapping[str, ImageSet]  # `train` first
    class_names: tuple[str, ...]
